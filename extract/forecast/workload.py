"""What the encoders would be given for the missing shards of a plan: distinct texts and pictures, by part."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cache import kinds
from cache.kinds import KINDS
from cache.names import PartName
from cache.writing.writer import Todo
from extract.planning.duplicates import Row
from extract.planning.rows import Rows
from extract.planning.shard_keys import home
from extract.planning.shards import Plan


class Texts(Sequence[str]):
    """Texts of rows, made whenever one is asked for: millions of them are counted, and a few are timed."""

    def __init__(self) -> None:
        self._pieces: list[tuple[np.ndarray, Callable[[int], str]]] = []
        self._ends: list[int] = []

    def add(self, rows: Iterable[int], text_of: Callable[[int], str]) -> None:
        """Add the texts of rows behind the others."""
        piece = np.fromiter(rows, np.int32)
        if len(piece):
            self._pieces.append((piece, text_of))
            self._ends.append(len(self) + len(piece))

    def extend(self, others: "Texts") -> None:
        """Add other texts behind these."""
        for rows, text_of in others._pieces:
            self.add(rows, text_of)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, place):  # type: ignore[no-untyped-def, override]
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        piece = bisect_right(self._ends, place)
        rows, text_of = self._pieces[piece]
        return text_of(int(rows[place - (self._ends[piece - 1] if piece else 0)]))


class Workload:
    """Texts and pictures that the ranges with something missing have to encode.

    `text_items` and `picture_items` are those by part. Where two parts come from one pass of an encoder, the first
    has the items and the other none: token.text with mention.text, mention.regions with mention.image.
    """

    def __init__(self, plan: Plan, todo: Sequence[Todo]) -> None:
        self._plan = plan
        self.text_items: dict[str, Texts] = defaultdict(Texts)
        self.picture_items: dict[str, list[Path]] = defaultdict(list)
        self.decoded: dict[Row, Path] = {}  # pictures that are opened
        for item in todo:
            parts = dict.fromkeys(shard.part.name for shard in item.missing)
            rows = range(*plan.borders[item.table][item.index])
            for part in parts:
                self._add_texts(part, rows, parts)
                self.picture_items[part] += self._pictures(part, rows, parts)

    def _add_texts(self, part: PartName, rows: range, missing: Iterable[str]) -> None:
        found, table, items = self._plan.rows, part.table, self.text_items[part]
        for source in KINDS[part].reads:
            if source == "name":
                own = self._plan.owners.entity_texts(rows.start, rows.stop).rows == np.arange(rows.start, rows.stop)
                items.add(np.flatnonzero(own) + rows.start, found.read["entity"].__getitem__)
            elif source in ("sentence", "sentences") and KINDS[part].beside not in missing:
                texts = found.read[home(table)]
                first = {
                    text: row for row, text in zip(reversed(rows), reversed(texts[rows.start : rows.stop]), strict=True)
                }
                items.add(sorted(first.values()), texts.__getitem__)
            elif source == "texts":
                for column in self._plan.owners.columns[table]:
                    own = self._plan.owners.own_texts(table, column, rows.start, rows.stop)
                    items.add(np.flatnonzero(own) + rows.start, partial(_text, found, table, column))

    def _pictures(self, part: PartName, rows: range, missing: Iterable[str]) -> Iterator[Path]:
        table, made = part.table, KINDS[part]
        if not {"picture", "release"} & set(made.reads):
            return
        owners, records = self._plan.owners, self._plan.rows.records(table)
        for row in rows:
            shared = owners.owns_picture(table, row)
            if owners.of_picture(part, row) == (table, row) if kinds.mentions_alone(part) else shared:
                path = self.decoded[Row(table, row)] = records[row].image.path
                if made.role and not (made.beside in missing and shared):  # ids hold why a picture is none
                    yield path


def _text(rows: Rows, table: str, column: str, row: int) -> str:
    return rows.texts(table, row)[column]
