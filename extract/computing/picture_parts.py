"""Fill what the encoders make of pictures: each distinct one decoded once, for all of them."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from cache.names import ColumnName, PartName
from cache.schema import IMAGE_STATUS
from common.errors import DatasetError
from extract import images
from extract.computing import coverage
from extract.computing.row_range import Range
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.duplicates import MENTIONS_ONLY, Slot
from extract.planning.shards import Plan

OK = IMAGE_STATUS.index("ok")
# what is made of a picture, by kind of part; objects before the crops that are cut by them
COLUMNS = {
    "resnet": ("image",),
    "regions": ("image",),
    "clip": ("image",),
    "objects": ("boxes", "scores", "labels", "summary"),
    "crops": ("clip", "labels"),
}
BLANK = ("objects", "crops")  # kinds whose rows are zero where there is no picture; the others hold the neutral one's


class Pictures:
    """The image encoders at work on a plan.  `decoded` counts pictures."""

    def __init__(self, plan: Plan, encoders: Encoders, config: ExtractConfig) -> None:
        self._plan, self._encoders, self._config = plan, encoders, config
        self.decoded = 0
        self._verdicts: dict[bytes, int] = {}  # by content hash: what decoding said
        self._unplaced = plan.rows.unplaced()
        self._neutrals: dict[str, np.ndarray] = {}
        self._stop_if_too_many()

    def fill(self, rows: Range) -> None:
        """Fill every missing picture column of a range, the reason codes of its ids included."""
        table, owners = rows.table, self._plan.owners
        kinds = [kind for kind in COLUMNS if f"{table}.{kind}" in rows]
        if not kinds and f"{table}.ids" not in rows:
            self._remember(rows)
            return
        self._encode(rows, [row for row in rows.rows if owners.owns_picture(table, row)], kinds)
        self._stop_if_too_many()
        statuses = np.array([self._status(table, row) for row in rows.rows], np.uint8)
        rows.put(f"{table}.ids.image_status", rows.rows, statuses)
        if (statuses != OK).any():
            held = [kind for kind in kinds if kind not in BLANK]
            self._make_neutrals(held)
            rows.spent(*(f"{table}.{kind}" for kind in held))
        own = [kind for kind in kinds if f"{table}.{kind}" in MENTIONS_ONLY]
        self._complete(rows, [kind for kind in kinds if kind not in own], statuses == OK)
        if own:  # of pictures that an entity has too
            first = [row for row in rows.rows if owners.of_picture(PartName(f"{table}.{own[0]}"), row) == (table, row)]
            there = [row for row in first if not owners.owns_picture(table, row) and self._status(table, row) == OK]
            self._encode(rows, there, own)
            self._complete(rows, own, statuses == OK)

    def _remember(self, rows: Range) -> None:
        statuses = rows.get(f"{rows.table}.ids.image_status", rows.rows)
        for row, status in zip(rows.rows, statuses.tolist(), strict=True):
            self._verdicts.setdefault(self._plan.owners.pictures[rows.table][row][0], status)

    def _encode(self, rows: Range, wanted: list[int], kinds: list[str]) -> None:
        """Decode the pictures of some rows and store what each kind of part makes of them."""
        stream = self._decode(rows.table, wanted)
        while batch := list(islice(stream, self._config.image_batch)):
            at = [row for row, image in batch if image is not None]
            decoded = [image for _, image in batch if image is not None]
            rows.spent(*(f"{rows.table}.{kind}" for kind in kinds))  # decoding serves all of them
            for together in _passes(kinds) if decoded else []:
                made = self._encoders.pictures(decoded, together)
                rows.spent(*(f"{rows.table}.{kind}" for kind in together))
                self._put(rows, at, made)
            if decoded and "crops" in kinds:
                boxes, labels = (rows.get(f"{rows.table}.objects.{name}", at) for name in ("boxes", "labels"))
                vectors = self._encoders.crops.encode(decoded, boxes, labels)
                self._put(rows, at, {"crops": {"clip": vectors, "labels": labels}})
            for kind in kinds:
                rows.tick(f"{rows.table}.{kind}", len(batch))

    def _put(self, rows: Range, at: list[int], made: dict[str, dict[str, np.ndarray]]) -> None:
        for kind, columns in made.items():
            for column, values in columns.items():
                rows.put(f"{rows.table}.{kind}.{column}", at, values)

    def _complete(self, rows: Range, kinds: list[str], there: np.ndarray) -> None:
        """Copy repeated pictures from their owners, put the neutral one where there is none, and say which is which."""
        table, everything = rows.table, np.array(rows.rows)
        for kind in kinds:
            part = self._plan.parts[f"{table}.{kind}"]
            owners = {row: self._plan.owners.of_picture(part.name, row) for row in everything[there].tolist()}
            repeats = {row: owner for row, owner in owners.items() if owner != (table, row)}
            for column in COLUMNS[kind]:
                copied = {row: Slot(ColumnName(f"{o.table}.{kind}.{column}"), o.row) for row, o in repeats.items()}
                rows.copy(part.name.column(column), copied)
                if not there.all():
                    dtype, shape = part.columns[column]
                    value = np.zeros(shape, dtype) if kind in BLANK else self._neutrals[kind]
                    rows.put(f"{part.name}.{column}", everything[~there], value[None])
            if kind not in BLANK:
                rows.put(f"{part.name}.present", everything, there)

    def _decode(self, table: str, rows: list[int]) -> Iterator[tuple[int, Image.Image | None]]:
        """Yield each row's decoded picture in order, None where it cannot be decoded; a few ahead in threads."""
        records = self._plan.rows.records(table)
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
                if content != self._plan.owners.pictures[table][row][0]:
                    raise DatasetError(
                        f"{records[row].image.path} changed while it was being read. Run the command again"
                    )
                self._verdicts[content] = IMAGE_STATUS.index(status)
                self.decoded += 1
                yield row, image

    def _status(self, table: str, row: int) -> int:
        content, status = self._plan.owners.pictures[table][row]
        return self._verdicts[content] if status == OK else status

    def _make_neutrals(self, kinds: list[str]) -> None:
        """Encode the one picture that stands where there is none, for the kinds that have not yet."""
        missing = [kind for kind in kinds if kind not in self._neutrals]
        made = self._encoders.pictures([images.neutral()], missing)
        self._neutrals |= {kind: columns["image"][0] for kind, columns in made.items()}

    def _stop_if_too_many(self) -> None:
        """Raise CoverageError as soon as too many distinct pictures have turned out unusable."""
        unusable: Counter[str] = Counter()
        for content, status in self._plan.rows.pictures.values():
            verdict = self._verdicts.get(content, OK) if status == OK else status
            if verdict != OK:
                unusable[IMAGE_STATUS[verdict]] += 1
        if self._unplaced:
            unusable["missing"] += self._unplaced
        coverage.stop(unusable, len(self._plan.rows.pictures) + self._unplaced, self._config.max_missing)


def _passes(kinds: list[str]) -> list[list[str]]:
    """Return the kinds of part that each encoder makes in one pass; crops come after the objects that they are of."""
    passes = [[kind for kind in kinds if kind in pass_] for pass_ in (("resnet", "regions"), ("clip",), ("objects",))]
    return [pass_ for pass_ in passes if pass_]


def _open(path: Path) -> tuple[Image.Image | None, str, bytes]:
    data, status = images.read(path)
    content = hashlib.sha256(data).digest()
    if status != "ok":
        return None, status, content
    image, status = images.decode(data)
    return image, status, content
