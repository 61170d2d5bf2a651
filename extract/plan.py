"""What an extraction must produce: every part's recipe and every shard's key, before anything is encoded."""

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np

from cache.fingerprint import content_hash, shard_key
from cache.schema import TABLES
from cache.writer import PartPlan, ShardPlan, columns_of
from extract import alignment, images
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.lists import Lists
from extract.rows import Rows, entity_text, mention_texts, strings, text_content

Borders = list[tuple[int, int]]
Slot = tuple[str, str, int]  # table, column, row


class Plan:
    """Shard plans by table, range and part kind; and which row owns each repeated text and picture.

    An item is encoded for its owner, the first slot in row order (entities, then mentions); all other slots copy
    the owner's vector. So every distinct item is encoded once, whatever was interrupted in between.
    """

    def __init__(self, config: ExtractConfig, rows: Rows, lists: Lists, encoders: Encoders) -> None:
        self.rows, self.lists, self._config = rows, lists, config
        self.ids = {"entity": _entity_ids(rows), "mention": _mention_ids(rows)}
        self.text_content = {t: [text_content(record) for record in rows.records(t)] for t in ("entity", "mention")}
        self.pictures = {t: [rows.picture(record.image) for record in rows.records(t)] for t in ("entity", "mention")}
        self.borders = {
            "entity": borders(len(rows.entities), config.shard_rows),
            "mention": borders(len(rows.mentions), config.shard_rows, [m.sentence for m in rows.mentions]),
        }
        self.borders["pair"] = self.borders["mention"]
        self._find_owners()
        self.parts = {part.name: part for part in self._parts(encoders)}
        self._keys: dict[str, list[str]] = {}  # of every shard by part; owners come before those that copy them
        for part in self.parts.values():
            self._keys[part.name] = keys = []
            for index, (begin, end) in enumerate(self.borders[part.table]):
                keys.append(self._key(part, index, begin, end))

    def shards(self, table: str) -> list[dict[str, ShardPlan]]:
        """Return, for each range of a table's rows, the shard plans by part kind."""
        parts = [part for part in self.parts.values() if part.table == table]
        return [
            {
                part.name.split(".")[1]: ShardPlan(part, index, begin, end - begin, self._keys[part.name][index])
                for part in parts
            }
            for index, (begin, end) in enumerate(self.borders[table])
        ]

    def content(self) -> Iterator[bytes]:
        """Yield what stands for every row of the dataset, whatever the encoders: the manifest's dataset content."""
        for part in ("entity.ids", "mention.ids", "pair.candidates"):
            contents = self._contents(part)
            for begin, end in self.borders[part.split(".")[0]]:
                yield from map(contents, range(begin, end))

    def owns_picture(self, table: str, row: int) -> bool:
        """Whether this row's picture is encoded for it (false where there is no file)."""
        return self.picture_owner.get(self.pictures[table][row][0]) == (table, row)

    def _find_owners(self) -> None:
        self.picture_owner: dict[bytes, tuple[str, int]] = {}
        self.clip_owner: dict[str, Slot] = {}
        self.bert_owner: dict[str, int] = {}
        for row, entity in enumerate(self.rows.entities):
            self.bert_owner.setdefault(entity_text(entity), row)
        for table in ("entity", "mention"):
            for row in range(len(self.rows.records(table))):
                content = self.pictures[table][row][0]
                if any(content):
                    self.picture_owner.setdefault(content, (table, row))
                for column, text in self.clip_texts(table, row).items():
                    self.clip_owner.setdefault(text, (table, column, row))

    def clip_texts(self, table: str, row: int) -> dict[str, str]:
        """Return the texts that CLIP reads of a row, by column."""
        if table == "mention":
            return mention_texts(self.rows.mentions[row])
        entity = self.rows.entities[row]
        texts = {"text": entity_text(entity)}
        return texts | {"description": entity.description} if self._described else texts

    @property
    def _described(self) -> bool:
        return any(entity.description for entity in self.rows.entities)

    def _parts(self, encoders: Encoders) -> list[PartPlan]:
        config = self._config
        feature = {"float16": "<f2", "float32": "<f4"}[config.storage]
        sizes = encoders.sizes()
        clip = {"encoder": encoders.clip.recipe, "pictures": images.POLICY}
        recipes = {
            "ids": {"pictures": images.POLICY},
            "resnet": {"encoder": encoders.resnet.recipe, "pictures": images.POLICY},
            "objects": {"encoder": encoders.objects.recipe, "pictures": images.POLICY},
            "clip": clip,
        }
        limits = {"entity": ("name: text", config.entity_tokens), "mention": ("sentence", config.sentence_tokens)}
        parts = []
        for table in ("entity", "mention"):
            reads, tokens = limits[table]
            named = recipes | {"bert": {"encoder": encoders.bert.recipe, "reads": reads, "max_tokens": tokens}}
            for kind in ("ids", "bert", "resnet", "clip", "objects"):
                widths = sizes | {name: array.dtype.itemsize for name, array in self.ids[table].items()}
                columns = columns_of(f"{table}.{kind}", widths, feature)
                if kind == "clip" and not self._described:
                    columns.pop("description", None)
                parts.append(PartPlan(f"{table}.{kind}", named[kind], columns))
        listed = {"C": self.lists.candidates.shape[1]}
        parts.append(
            PartPlan("pair.candidates", {"origin": self.lists.origin}, columns_of("pair.candidates", listed, feature))
        )
        inputs = {part.name: part.fingerprint for part in parts if part.name in alignment.INPUTS}
        recipe = {"equations": "DRIN 6, 7, 8, 11", "compute": "float32 from the stored columns"}
        parts.append(PartPlan("pair.alignment", recipe, columns_of("pair.alignment", listed, feature), inputs))
        return sorted(parts, key=lambda part: TABLES.index(part.table))

    def _key(self, part: PartPlan, index: int, begin: int, end: int) -> str:
        contents = map(self._contents(part.name), range(begin, end))
        return shard_key(part.fingerprint, [*contents, *self._inputs(part.name, index, begin, end)])

    def _inputs(self, part: str, index: int, begin: int, end: int) -> Iterator[bytes]:
        """Yield the keys of the shards that alignment reads: equal texts may differ in the last bits elsewhere."""
        if part == "pair.alignment":
            listed = self.lists.candidates[begin:end]
            ranges = sorted({self._range("entity", int(row)) for row in np.unique(listed[listed >= 0])})
            for name in alignment.INPUTS:
                for i in ranges if name.startswith("entity") else [index]:
                    yield bytes.fromhex(self._keys[name][i])

    def _contents(self, part: str) -> Callable[[int], bytes]:
        """Return the function from a row to the bytes that stand for what the part reads of it.

        Where its vectors come from belongs to it: the owner's batch decides their last bits.
        """
        table, kind = part.split(".")
        if table == "pair":
            return self._pair_content
        text, pictures = self.text_content[table], self.pictures[table]
        if kind == "ids":
            return lambda row: (
                content_hash(*(str(c[row]) for c in self.ids[table].values()), pictures[row][1])
                + text[row]
                + pictures[row][0]
            )
        if kind == "bert":
            return lambda row: text[row] + (self._bert_origin(row) if table == "entity" else b"")
        if kind == "clip":
            return lambda row: (
                text[row] + pictures[row][0] + self._picture_origin(part, row) + self._clip_origins(table, row)
            )
        return lambda row: pictures[row][0] + self._picture_origin(part, row)

    def _pair_content(self, row: int) -> bytes:
        entities = [int(e) for e in self.lists.candidates[row]]
        own = self.text_content["mention"][row] + self.pictures["mention"][row][0]
        gold = int(self.lists.gold[row])
        there = [self.text_content["entity"][e] + self.pictures["entity"][e][0] if e >= 0 else b"" for e in entities]
        scores = self.lists.lexical[row].tobytes() + self.lists.lexical_gold[row].tobytes()
        return content_hash(gold, *entities) + scores + own + b"".join(there)

    def _bert_origin(self, row: int) -> bytes:
        return self._origin("entity.bert", row, "entity", self.bert_owner[entity_text(self.rows.entities[row])])

    def _clip_origins(self, table: str, row: int) -> bytes:
        origins = []
        for column, text in self.clip_texts(table, row).items():
            owner_table, owner_column, owner = self.clip_owner[text]
            origins.append(owner_column.encode() if column != owner_column else b"")
            origins.append(self._origin(f"{table}.clip", row, owner_table, owner))
        return b"".join(origins)

    def _picture_origin(self, part: str, row: int) -> bytes:
        owner = self.picture_owner.get(self.pictures[part.split(".")[0]][row][0])
        return b"" if owner is None else self._origin(part, row, *owner)

    def _origin(self, part: str, row: int, owner_table: str, owner: int) -> bytes:
        """Return 32 bytes that say where a row's vector is made: for itself, in its own shard, or in which other."""
        table, kind = part.split(".")
        if (table, row) == (owner_table, owner):
            return b"\1" * 32
        index = self._range(owner_table, owner)
        if table == owner_table and index == self._range(table, row):
            return bytes(32)
        return bytes.fromhex(self._keys[f"{owner_table}.{kind}"][index])

    def _range(self, table: str, row: int) -> int:
        """Return the index of the range, and so of the shards, that a row lies in."""
        return bisect_right(self.borders[table], row, key=lambda border: border[0]) - 1


def borders(count: int, size: int, groups: list[str] | None = None) -> Borders:
    """Cut `count` rows into ranges of `size`; with `groups`, a range grows until its last group is whole."""
    result, begin = [], 0
    while begin < count:
        end = min(begin + size, count)
        while groups is not None and end < count and groups[end] == groups[end - 1]:
            end += 1
        result.append((begin, end))
        begin = end
    return result


def _entity_ids(rows: Rows) -> dict[str, np.ndarray]:
    return {"id": strings([e.id for e in rows.entities]), "name": strings([e.name for e in rows.entities])}


def _mention_ids(rows: Rows) -> dict[str, np.ndarray]:
    entities = {entity.id: row for row, entity in enumerate(rows.entities)}
    return {
        "id": strings([m.id for m in rows.mentions]),
        "caption": strings([m.caption for m in rows.mentions]),
        "surface": strings([m.surface for m in rows.mentions]),
        "type": strings([m.type for m in rows.mentions]),
        "splits": np.array([m.splits for m in rows.mentions], np.uint8),
        "gold": np.array([-1 if m.gold is None else entities[m.gold] for m in rows.mentions], np.int32),
    }
