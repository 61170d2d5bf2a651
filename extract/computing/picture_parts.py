"""Fill what the encoders make of pictures: each distinct one decoded once, for all of them."""

import math
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cache import kinds
from cache.kinds import IMAGE_STATUS, KINDS
from cache.names import ColumnName, PartName
from common.errors import DatasetError
from extract import images
from extract.computing import coverage
from extract.computing.overlap import DECODING, ENCODING, Ahead, Held, Spans
from extract.computing.row_range import Range
from extract.computing.tasks import Task
from extract.config import ExtractConfig
from extract.encoders import Encoders, transfer
from extract.encoders.base import Columns
from extract.encoders.pixels import Picture, Read
from extract.planning.duplicates import Slot
from extract.planning.shards import Plan

OK = IMAGE_STATUS.index("ok")
NONE: Mapping[str, Columns] = MappingProxyType({})
Opened = tuple[Picture | None, str, bytes]  # decoded, or not and why; the hash of its content
Decoding = Ahead[int, Opened]  # by row
MOST_PIXELS = 256_000_000  # decoded and not taken: 1 GB, as much as four of the largest pictures


@dataclass(frozen=True)
class Pass:
    """A batch that an encoder has: the rows of its pictures, the parts that it is for, and what waits for columns.

    Behind that, `begun` and `done` say when the device was at it.
    """

    at: list[int]
    together: list[PartName]
    finish: Callable[[], dict[PartName, dict[str, np.ndarray]]]
    begun: Callable[[], float]
    done: Callable[[], float]


class Pictures:
    """The image encoders at work on a plan.  `decoded` counts pictures.

    `neutrals` are what they make of the neutral picture by kind of part, where that is known from another plan.
    """

    def __init__(
        self,
        plan: Plan,
        encoders: Encoders,
        config: ExtractConfig,
        neutrals: Mapping[str, Columns] = NONE,
        spans: Spans | None = None,
    ) -> None:
        self._plan, self._encoders, self._config = plan, encoders, config
        self._spans = spans or Spans()
        self.decoded = 0
        self._verdicts: dict[bytes, int] = {}  # by content hash: what decoding said
        self._unplaced = plan.rows.unplaced()
        self.neutrals = dict(neutrals)
        self._threads = ThreadPoolExecutor(config.workers, "decoding")  # they end with it
        self._most, self._held = 2 * config.image_batch, Held(MOST_PIXELS)  # pictures that are decoded ahead
        self._begun: dict[tuple[str, int], Decoding] = {}  # of ranges that are not filled yet, by their first row
        self._stop_if_too_many()

    def begin(self, rows: Range) -> None:
        """Begin to decode the first pictures of a range, which `fill` takes."""
        self._begin(rows.table, rows.rows, rows).begin(self._most)

    def fill(self, rows: Range) -> None:
        """Encode every picture that the range owns; what else its columns hold, reason codes included, comes later."""
        table = rows.table
        decoding = self._begin(table, rows.rows, rows)
        del self._begun[table, rows.start]
        parts = _missing(table, rows)
        if not parts and f"{table}.ids" not in rows:
            decoding.drop()  # another process was faster
            self._remember(rows)
            return
        self._encode(rows, decoding, parts, rows.following)
        self._stop_if_too_many()
        rows.later(partial(self._rest, rows, parts), f"{table}.ids", *parts)

    def _rest(self, rows: Range, parts: list[PartName]) -> None:
        """Fill what takes the verdicts on all pictures of the range, those that other ranges own among them."""
        table, owners = rows.table, self._plan.owners
        statuses = np.array([self._status(table, row) for row in rows.rows], np.uint8)
        rows.put(f"{table}.ids.image_status", rows.rows, statuses)
        if (statuses != OK).any():
            neutral = [part for part in parts if KINDS[part].neutral]
            self._make_neutrals(neutral)
            rows.spent(*neutral)
        own = [part for part in parts if kinds.mentions_alone(part)]
        self._complete(rows, [part for part in parts if part not in own], statuses == OK)
        if own:  # of pictures that an entity has too
            first = [row for row in rows.rows if owners.of_picture(own[0], row) == (table, row)]
            there = [row for row in first if not owners.owns_picture(table, row) and self._status(table, row) == OK]
            self._encode(rows, self._decoding(table, there, own), own)
            self._complete(rows, own, statuses == OK)

    def _remember(self, rows: Range) -> None:
        statuses = rows.get(f"{rows.table}.ids.image_status", rows.rows)
        for row, status in zip(rows.rows, statuses.tolist(), strict=True):
            self._verdicts.setdefault(self._content(rows.table, row), status)

    def _encode(
        self,
        rows: Range,
        decoding: Decoding,
        parts: list[PartName],
        following: Callable[[], Task | None] = lambda: None,
    ) -> None:
        """Store what each part makes of pictures of some rows, as they are decoded; those of a task follow."""
        passes, flight = kinds.passes(parts), deque[Pass]()
        stream = self._decoded(rows.table, decoding, following)
        while batch := list(islice(stream, self._config.image_batch)):
            at = [row for row, picture in batch if picture is not None]
            decoded = [picture for _, picture in batch if picture is not None]
            rows.spent(*parts)  # decoding serves all of them
            for together in passes if decoded else []:
                if any(KINDS[part].inputs for part in together):
                    self._store(rows, flight, 0)
                stored = self._stored(rows, at, together)
                begun = transfer.stamp(self._encoders.compute.device)
                finish = self._encoders.launched(decoded, together, stored)
                done = transfer.stamp(self._encoders.compute.device)
                flight.append(Pass(at, together, finish, begun, done))
                self._store(rows, flight, len(passes) * self._encoders.compute.ahead)
            for part in parts:
                rows.tick(part, len(batch))
        self._store(rows, flight, 0)

    def _store(self, rows: Range, flight: deque[Pass], ahead: int) -> None:
        """Store what passes made, in order, until only so many are still in flight."""
        while len(flight) > ahead:
            landed = flight.popleft()
            made = landed.finish()
            self._spans.add(ENCODING, landed.begun(), landed.done())
            rows.spent(*landed.together)
            rows.place(landed.at, made)

    def _stored(self, rows: Range, at: list[int], parts: list[PartName]) -> dict[str, np.ndarray]:
        """Return the stored columns that parts of one pass derive from."""
        inputs = [(part, column) for name in parts for part in KINDS[name].inputs for column in KINDS[part].columns]
        return {column: rows.get(f"{part}.{column}", at) for part, column in inputs}

    def _complete(self, rows: Range, parts: list[PartName], there: np.ndarray) -> None:
        """Copy repeated pictures from their owners, put the neutral one where there is none, and say which is which."""
        table, everything = rows.table, np.array(rows.rows)
        for name in parts:
            part = self._plan.parts[name]
            owners = {row: self._plan.owners.of_picture(name, row) for row in everything[there].tolist()}
            repeats = {row: owner for row, owner in owners.items() if owner != (table, row)}
            for column in KINDS[name].from_picture:
                copied = {row: Slot(ColumnName(f"{o.table}.{name.kind}.{column}"), o.row) for row, o in repeats.items()}
                rows.copy(name.column(column), copied)
                if not there.all():
                    dtype, shape = part.columns[column]
                    value = self.neutrals[name.kind][column] if KINDS[name].neutral else np.zeros((1, *shape), dtype)
                    rows.put(name.column(column), everything[~there], value)
            if KINDS[name].neutral:
                rows.put(name.column("present"), everything, there)

    def _begin(self, table: str, rows: range, missing: Container[str]) -> Decoding:
        """Return what decodes the pictures that a range owns, if parts that read them are missing, or verdicts."""
        if (table, rows.start) not in self._begun:
            parts = _missing(table, missing)
            wanted = rows if parts or f"{table}.ids" in missing else ()
            owned = [row for row in wanted if self._plan.owners.owns_picture(table, row)]
            self._begun[table, rows.start] = self._decoding(table, owned, parts)
        return self._begun[table, rows.start]

    def _behind(self, table: str, task: Task | None) -> Decoding:
        """Return what decodes the pictures of the task that is next; nothing where there is none."""
        if task is None:
            return self._decoding(table, (), ())
        return self._begin(task.table, range(*self._plan.borders[task.table][task.index]), task.parts)

    def _decoding(self, table: str, rows: Sequence[int], parts: Sequence[PartName]) -> Decoding:
        """Return what decodes the pictures of rows, and makes what encoders read of them for parts."""
        records, reads = self._plan.rows.records(table), self._encoders.reads(parts) if rows else []
        return Ahead(
            self._threads, lambda row: _open(records[row].image.path, reads, self._spans), rows, self._held, _pixels
        )

    def _decoded(
        self, table: str, decoding: Decoding, following: Callable[[], Task | None]
    ) -> Iterator[tuple[int, Picture | None]]:
        """Yield each row's decoded picture in order, None where it cannot be decoded; a few are decoded ahead.

        Where fewer are left, the first of the following task are, so that its encoders need not wait for them.
        """
        records, behind = self._plan.rows.records(table), None
        while True:
            decoding.begin(self._most)
            if behind is None and len(decoding) < self._most:  # none is left to begin
                behind = self._behind(table, following())
            if behind is not None:
                behind.begin(self._most - len(decoding))
            if not decoding:
                return
            row, (picture, status, content) = decoding.take()
            if content != self._content(table, row):
                raise DatasetError(f"{records[row].image.path} changed while it was being read. Run the command again")
            self._verdicts[content] = IMAGE_STATUS.index(status)
            self.decoded += 1
            yield row, picture

    def _status(self, table: str, row: int) -> int:
        status = int(self._plan.rows.picture_status[table][row])
        return self._verdicts[self._content(table, row)] if status == OK else status

    def _content(self, table: str, row: int) -> bytes:
        return self._plan.rows.picture_content[table][row].tobytes()

    def _make_neutrals(self, parts: list[PartName]) -> None:
        """Encode the one picture that stands where there is none, for the kinds of part that have not yet."""
        missing = [part for part in parts if part.kind not in self.neutrals]
        made = self._encoders.pictures([images.neutral()], missing)
        self.neutrals |= {part.kind: columns for part, columns in made.items()}

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


def _missing(table: str, missing: Container[str]) -> list[PartName]:
    """Return the parts of a table that read pictures, of those that are missing."""
    return [part for part in kinds.reading("picture", table) if part in missing]


def _open(path: Path, reads: Sequence[Read], spans: Spans) -> Opened:
    with spans.of(DECODING):
        image, status, content = images.opened(path)
        return None if image is None else Picture(image).prepared(reads), status, content


def _pixels(found: Opened) -> int:
    """Return how many pixels are held of a picture."""
    return 0 if found[0] is None else math.prod(found[0].size)
