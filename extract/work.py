"""Compute the missing shards of a plan, range by range; every distinct text and picture once."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from PIL import Image

from cache.draft import Draft
from cache.schema import IMAGE_STATUS
from cache.writer import Shard, ShardPlan
from common.errors import DatasetError
from common.log import Progress
from extract import alignment, coverage, images
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.plan import Plan, Slot
from extract.rows import entity_text

OK = IMAGE_STATUS.index("ok")
PICTURES = ("resnet", "clip", "objects")
Decoded = tuple[int, Image.Image | None]


class Work:
    """One extraction under way.  `draft` holds what is finished."""

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft, config: ExtractConfig) -> None:
        self.plan, self.encoders, self.draft, self._config = plan, encoders, draft, config
        self.decoded = self.shards_made = self.shards_kept = 0
        # by content hash: what decoding said; by picture file: what reading it said
        self._verdicts: dict[bytes, int] = {}
        self._unplaced = plan.rows.unplaced()
        self._ticks: dict[str, int] = {}  # rows reported as done, by shard
        self._stop_if_too_many()

    def table(self, table: str) -> None:
        """Finish every shard of a table."""
        todo = []
        for plans in self.plan.shards(table):
            missing = {kind: plan for kind, plan in plans.items() if not self.draft.adopt(plan)}
            self.shards_kept += len(plans) - len(missing)
            todo.append((plans, missing))
        total = sum(plan.rows for _, missing in todo for plan in missing.values())
        with Progress(total, table, "rows") as self._progress:
            for plans, missing in todo:
                self._range(table, next(iter(plans.values())), missing)

    def counters(self) -> str:
        """Return how often each encoder ran and how many shards that made."""
        e = self.encoders
        return (
            f"decoded {self.decoded:,} pictures; encoded {e.bert.encoded:,} texts with BERT, {e.clip.texts:,} texts "
            f"and {e.clip.images:,} pictures with CLIP, {e.resnet.encoded - e.objects.crops:,} pictures and "
            f"{e.objects.crops:,} crops with ResNet, {e.objects.pictures:,} pictures with the detector; "
            f"{self.shards_made:,} shards made, {self.shards_kept:,} kept"
        )

    def _range(self, table: str, span: ShardPlan, missing: dict[str, ShardPlan]) -> None:
        shards = {kind: Shard(plan, lambda row: self.plan.rows.label(table, row)) for kind, plan in missing.items()}
        if table == "pair":
            self._pairs(shards)
        else:
            if "bert" in shards:
                (self._entity_bert if table == "entity" else self._mention_bert)(shards["bert"])
                self._save(shards.pop("bert"))
            if "clip" in shards:
                self._clip_texts(table, shards["clip"])
            self._pictures(table, span, shards)
        for kind in [*PICTURES, "ids", "candidates", "alignment"]:  # ids last: it holds the verdicts on the pictures
            if kind in shards:
                self._save(shards[kind])

    def _save(self, shard: Shard) -> None:
        self.draft.save(shard)
        self.shards_made += 1
        self._tick(shard, shard.plan.rows)

    def _tick(self, shard: Shard, rows: int) -> None:
        """Report rows of a shard as done, but never more than it has."""
        done = self._ticks.get(shard.plan.file, 0)
        self._ticks[shard.plan.file] = min(done + rows, shard.plan.rows)
        self._progress.advance(self._ticks[shard.plan.file] - done)

    def _entity_bert(self, shard: Shard) -> None:
        texts = {row: entity_text(self.plan.rows.entities[row]) for row in _rows(shard.plan)}
        owners = {row: self.plan.bert_owner[text] for row, text in texts.items()}
        own = [row for row, owner in owners.items() if owner == row]
        for batch in self.encoders.bert.encode([texts[row] for row in own], self._config.entity_tokens):
            at = np.array([own[i] for i in batch.index]) - shard.plan.start
            for column, values in (("text", batch.cls), ("mean", batch.mean), ("pooler", batch.pooler)):
                shard.put(column, at, values)
            shard.put("truncated", at, batch.truncated)
            self._tick(shard, len(at))
        copies = {row: owner for row, owner in owners.items() if owner != row}
        self._copy(shard, {c: {row: ("entity", c, o) for row, o in copies.items()} for c in shard.plan.part.columns})

    def _mention_bert(self, shard: Shard) -> None:
        mentions = self.plan.rows.mentions
        by_sentence: dict[str, list[int]] = {}
        for row in _rows(shard.plan):
            by_sentence.setdefault(mentions[row].sentence, []).append(row)
        groups = list(by_sentence.values())
        spans = [[(mentions[row].start, mentions[row].end) for row in group] for group in groups]
        for batch in self.encoders.bert.encode(list(by_sentence), self._config.sentence_tokens, spans):
            for i, cls, cut, vectors, found in zip(
                batch.index, batch.cls, batch.truncated, batch.spans, batch.found, strict=True
            ):
                at = np.array(groups[i]) - shard.plan.start
                shard.put("span", at, vectors)
                shard.put("found", at, found)
                shard.put("cls", at, np.tile(cls, (len(at), 1)))
                shard.put("truncated", at, np.full(len(at), cut))
                self._tick(shard, len(at))

    def _clip_texts(self, table: str, shard: Shard) -> None:
        """Fill the text columns; `truncated` says whether any text of the row was cut."""
        slots = {
            (column, row): text
            for row in _rows(shard.plan)
            for column, text in self.plan.clip_texts(table, row).items()
        }
        owners = {slot: self.plan.clip_owner[text] for slot, text in slots.items()}
        own = [slot for slot, owner in owners.items() if owner == (table, *slot)]
        texts = [slots[slot] for slot in own]
        vectors = self.encoders.clip.encode_texts(texts, lambda: self._tick(shard, 0))
        for column in self.plan.clip_texts(table, shard.plan.start):
            at = [i for i, slot in enumerate(own) if slot[0] == column]
            shard.put(column, np.array([own[i][1] for i in at], int) - shard.plan.start, vectors[at])
        copies: dict[str, dict[int, Slot]] = {}
        for (column, row), owner in owners.items():
            if owner != (table, column, row):
                copies.setdefault(column, {})[row] = owner
        self._copy(shard, copies)
        cut = {row for (_, row), text in slots.items() if self.encoders.clip.is_cut(text)}
        shard.put("truncated", np.arange(shard.plan.rows), np.array([row in cut for row in _rows(shard.plan)]))

    def _pictures(self, table: str, span: ShardPlan, shards: dict[str, Shard]) -> None:
        """Decode each owned picture of a range once, for all shards that want it."""
        if not shards:
            statuses = self.draft.rows(f"{table}.ids.image_status", np.arange(span.start, span.start + span.rows))
            for row, status in zip(_rows(span), statuses.tolist(), strict=True):
                self._verdicts.setdefault(self.plan.pictures[table][row][0], status)
            return
        kinds = [kind for kind in PICTURES if kind in shards]
        own = [row for row in _rows(span) if self.plan.owns_picture(table, row)]
        stream = self._decode(table, own)
        while batch := list(islice(stream, self._config.image_batch)):
            there = [(row, image) for row, image in batch if image is not None]
            made = self.encoders.pictures([image for _, image in there], kinds) if there else {}
            at = np.array([row for row, _ in there], int) - span.start
            for kind, columns in made.items():
                for column, values in columns.items():
                    shards[kind].put(column, at, values)
                self._tick(shards[kind], len(batch))
        self._stop_if_too_many()
        self._fill_pictures(table, span, shards, kinds, own)

    def _fill_pictures(
        self, table: str, span: ShardPlan, shards: dict[str, Shard], kinds: list[str], own: list[int]
    ) -> None:
        """Copy repeated pictures from their owners, put the neutral one where there is none, and say which is which."""
        statuses = np.array([self._status(table, row) for row in _rows(span)], np.uint8)
        blank, everything = np.flatnonzero(statuses != OK), np.arange(span.rows)
        mine = {row - span.start for row in own}
        repeats = [int(at) for at in np.flatnonzero(statuses == OK) if at not in mine]
        for kind in kinds:
            for column in ("boxes", "scores", "labels", "summary") if kind == "objects" else ("image",):
                sources = {}
                for at in repeats:
                    owner_table, owner = self.plan.picture_owner[self.plan.pictures[table][at + span.start][0]]
                    sources[at + span.start] = (owner_table, column, owner)
                self._copy(shards[kind], {column: sources})
                if len(blank):
                    value = self._neutral(kind, column)
                    shards[kind].put(column, blank, np.broadcast_to(value, (len(blank), *value.shape)))
            if kind != "objects":
                shards[kind].put("present", everything, statuses == OK)
        if "ids" in shards:
            self._ids(table, shards["ids"], statuses)

    def _ids(self, table: str, shard: Shard, statuses: np.ndarray) -> None:
        at, rows = np.arange(shard.plan.rows), list(_rows(shard.plan))
        for column, values in self.plan.ids[table].items():
            shard.put(column, at, values[rows])
        for column, contents in (
            ("content_text", [self.plan.text_content[table][row] for row in rows]),
            ("content_image", [self.plan.pictures[table][row][0] for row in rows]),
        ):
            shard.put(column, at, np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 32))
        shard.put("image_status", at, statuses)

    def _pairs(self, shards: dict[str, Shard]) -> None:
        for kind, shard in shards.items():
            rows, at = np.array(_rows(shard.plan)), np.arange(shard.plan.rows)
            lists = self.plan.lists
            if kind == "candidates":
                columns = {name: getattr(lists, name)[rows] for name in shard.plan.part.columns}
            else:
                columns = alignment.align(self._alignment_inputs(rows), lists.candidates[rows])
            for name, values in columns.items():
                shard.put(name, at, values)

    def _alignment_inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        if not hasattr(self, "_entity_columns"):
            self._entity_columns = {
                name: self.draft.column(name) for name in alignment.READS if name.startswith("entity")
            }
        return self._entity_columns | {
            name: self.draft.rows(name, rows) for name in alignment.READS if name.startswith("mention")
        }

    def _copy(self, shard: Shard, sources: dict[str, dict[int, Slot]]) -> None:
        """Copy vectors of repeated items: column -> row -> the slot that owns its item."""
        start, kind = shard.plan.start, shard.plan.part.name.split(".")[1]
        for column, slots in sources.items():
            by_source: dict[tuple[str, str], list[tuple[int, int]]] = {}
            for row, (table, owner_column, owner) in slots.items():
                by_source.setdefault((table, owner_column), []).append((row, owner))
            for (table, owner_column), pairs in by_source.items():
                rows, owners = (np.array(side) for side in zip(*pairs, strict=True))
                inside = (owners >= start) & (owners < start + shard.plan.rows) & (table == shard.plan.part.table)
                if inside.any():
                    shard.put(column, rows[inside] - start, shard.get(owner_column, owners[inside] - start))
                if not inside.all():
                    values = self.draft.rows(f"{table}.{kind}.{owner_column}", owners[~inside])
                    shard.put(column, rows[~inside] - start, values)

    def _decode(self, table: str, rows: list[int]) -> Iterator[Decoded]:
        """Yield each row's decoded picture in order, None where it cannot be decoded; a few ahead in threads."""
        records = self.plan.rows.records(table)
        with ThreadPoolExecutor(self._config.workers) as pool:
            ahead: deque[tuple[int, Future[tuple[Image.Image | None, str, bytes]]]] = deque()
            waiting = iter(rows)
            while True:
                for row in islice(waiting, 2 * self._config.image_batch - len(ahead)):
                    ahead.append((row, pool.submit(_open, records[row].image.path)))
                if not ahead:
                    return
                row, future = ahead.popleft()
                image, status, content = future.result()
                if content != self.plan.pictures[table][row][0]:
                    raise DatasetError(
                        f"{records[row].image.path} changed while it was being read. Run the command again"
                    )
                self._verdicts[content] = IMAGE_STATUS.index(status)
                self.decoded += 1
                yield row, image

    def _status(self, table: str, row: int) -> int:
        content, status = self.plan.pictures[table][row]
        return self._verdicts[content] if status == OK else status

    def _neutral(self, kind: str, column: str) -> np.ndarray:
        """Return the one vector that stands where there is no picture; no objects at all for the detector."""
        if kind == "objects":
            dtype, shape = self.plan.parts["entity.objects"].columns[column]
            return np.zeros(shape, dtype)
        if not hasattr(self, "_neutrals"):
            self._neutrals: dict[str, np.ndarray] = {}
        if kind not in self._neutrals:
            self._neutrals[kind] = self.encoders.pictures([images.neutral()], [kind])[kind]["image"][0]
        return self._neutrals[kind]

    def _stop_if_too_many(self) -> None:
        """Raise CoverageError as soon as too many distinct pictures have turned out unusable."""
        unusable: Counter[str] = Counter()
        for content, status in self.plan.rows.pictures.values():
            verdict = self._verdicts.get(content, OK) if status == OK else status
            if verdict != OK:
                unusable[IMAGE_STATUS[verdict]] += 1
        if self._unplaced:
            unusable["missing"] += self._unplaced
        coverage.stop(unusable, len(self.plan.rows.pictures) + self._unplaced, self._config.max_missing)


def _rows(plan: ShardPlan) -> range:
    return range(plan.start, plan.start + plan.rows)


def _open(path) -> tuple[Image.Image | None, str, bytes]:
    data, status = images.read(path)
    content = hashlib.sha256(data).digest()
    if status != "ok":
        return None, status, content
    image, status = images.decode(data)
    return image, status, content
