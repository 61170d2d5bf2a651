"""Which row owns each repeated text and picture: the first one. It alone is encoded, all others copy its vector."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cache import kinds
from cache.names import ColumnName, PartName
from extract.planning.rows import TABLES, Rows, entity_text, hashes, one_text


class Row(NamedTuple):
    """A row of a table."""

    table: str
    row: int


class Slot(NamedTuple):
    """What a row has in a column."""

    column: ColumnName
    row: int


class Owning(NamedTuple):
    """What owns the items of n rows: entities or mentions, (n,) bool; which rows, -1 for no item; in which columns."""

    of_entity: np.ndarray
    rows: np.ndarray
    columns: list[str]

    def row(self, place: int) -> Row:
        """Return the row that owns one of the items."""
        return Row("entity" if self.of_entity[place] else "mention", int(self.rows[place]))


class Owners:
    """Owners of texts and pictures, in row order, entities before mentions, one generation after the other.

    So every distinct item is encoded once, whatever was interrupted in between. Entities never copy from mentions: a
    later entity with a picture that only a mention had is encoded again. In parts that only mentions have, the first
    mention owns a picture, be it an entity's too. Items are told apart by their hashes.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.columns = {table: rows.text_columns(table) for table in TABLES}  # that hold the vector of one text each
        self._entity_text = _first(rows.name_content)

    def of_entity_text(self, row: int) -> int:
        """Return the entity that owns the text `name: text` of one."""
        return int(self._entity_text[row])

    def entity_texts(self, begin: int, end: int) -> Owning:
        """Return the entities that own the texts `name: text` of entities."""
        return Owning(np.ones(end - begin, bool), self._entity_text[begin:end], [])

    def of_text(self, table: str, row: int, column: str) -> Slot:
        """Return the column and the row that own the text of a row of which a column holds the vector."""
        owner = self.texts(table, column, row, row + 1)
        [part] = kinds.reading("texts", owner.row(0).table)
        return Slot(part.column(owner.columns[0]), int(owner.rows[0]))

    def texts(self, table: str, column: str, begin: int, end: int) -> Owning:
        """Return what owns the texts of rows of which a column holds the vectors."""
        names = self.columns[table]
        numbers = self._texts[table][begin * len(names) : end * len(names)][names.index(column) :: len(names)]
        entities, mentions = (self.columns[table] for table in TABLES)
        of_entity = numbers < (border := len(self._rows.entities) * len(entities))
        rows = np.where(of_entity, numbers // len(entities), (numbers - border) // len(mentions))
        places = np.where(of_entity, numbers % len(entities), len(entities) + (numbers - border) % len(mentions))
        return Owning(of_entity, rows, [[*entities, *mentions][place] for place in places.tolist()])

    def own_texts(self, table: str, column: str, begin: int, end: int) -> np.ndarray:
        """Return for which rows the text of a column is encoded, (n,)."""
        found = self.texts(table, column, begin, end)
        mine = (found.of_entity == (table == "entity")) & (found.rows == np.arange(begin, end))
        return mine & np.array([name == column for name in found.columns])

    def owns_picture(self, table: str, row: int) -> bool:
        """Whether a picture is encoded for this row in the parts that entities and mentions have."""
        return bool(self.own_pictures(table, row, row + 1)[0])

    def own_pictures(self, table: str, begin: int, end: int) -> np.ndarray:
        """Return for which rows a picture is encoded in the parts that entities and mentions have, (n,)."""
        first = 0 if table == "entity" else len(self._rows.entities)
        return self._pictures[table][begin:end] == np.arange(first + begin, first + end)

    def of_picture(self, part: PartName, row: int) -> Row | None:
        """Return the row that owns the picture of a row of a part, None where there is no file."""
        owner = self.pictures(part, row, row + 1)
        return owner.row(0) if owner.rows[0] >= 0 else None

    def pictures(self, part: PartName, begin: int, end: int) -> Owning:
        """Return the rows that own the pictures of rows of a part."""
        found = self._mention_pictures if kinds.mentions_alone(part) else self._pictures[part.table]
        numbers, entities = found[begin:end], len(self._rows.entities)
        return Owning(numbers < entities, np.where(numbers < entities, numbers, numbers - entities), [])

    def asked(self, part: PartName, begin: int, end: int) -> Iterator[Owning]:
        """Yield what owns that which rows have in a part: texts and pictures; of ids pictures, for their verdicts."""
        reads = set(kinds.KINDS[part].reads)
        if "name" in reads:
            yield self.entity_texts(begin, end)
        for column in self.columns[part.table] if "texts" in reads else ():
            yield self.texts(part.table, column, begin, end)
        if reads & {"picture", "release"}:
            yield self.pictures(part, begin, end)

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        """Numbers of the texts that own those of the table whose rows ask: an entity's are never a mention's.

        The texts of a row are numbered one after the other, all entities before mentions.
        """
        rows, entities = self._rows, self._rows.name_content
        if rows.described:
            second = (one_text(entity.description or entity_text(entity)) for entity in rows.entities)
            entities = np.stack([entities, hashes(second, len(entities))], 1).reshape(-1, 32)
        said = [one_text(text) for row in range(len(rows.mentions)) for text in rows.texts("mention", row).values()]
        mentions = hashes(said, len(said))
        widths = [len(self.columns[table]) for table in TABLES]
        return {
            "entity": _first(entities),
            "mention": _first_in_turn(entities, mentions, rows.layout.generations, widths)[len(entities) :],
        }

    @cached_property
    def _pictures(self) -> dict[str, np.ndarray]:
        """Numbers of the rows that own the pictures of the table whose rows ask, entities before mentions; -1 none."""
        entities, mentions = (self._rows.picture_content[table] for table in TABLES)
        there = {table: self._there(table) for table in TABLES}
        if not any(map(np.any, there.values())):
            return {table: np.full(len(of), -1, np.int32) for table, of in there.items()}
        found = _first_in_turn(entities, mentions, self._rows.layout.generations, [1, 1])[len(entities) :]
        return {
            "entity": np.where(there["entity"], _first(entities), -1),
            "mention": np.where(there["mention"], found, -1),
        }

    @cached_property
    def _mention_pictures(self) -> np.ndarray:
        own = _first(self._rows.picture_content["mention"]) + len(self._rows.entities)
        return np.where(self._there("mention"), own, -1)

    def _there(self, table: str) -> np.ndarray:
        return self._rows.picture_content[table].any(1)


def _first(contents: np.ndarray) -> np.ndarray:
    """Return for each hash the row of the first that is equal: (n, 32) uint8 -> (n,) int32."""
    words = contents.view(np.uint64).reshape(-1, 4)
    order = np.lexsort((words[:, 1], words[:, 0])).astype(np.int32)  # stable; half a sha256 orders all that differ
    new = np.ones(len(order), bool)
    for begin in range(1, len(order), 1 << 16):  # not all hashes in their order at once
        after = words[order[begin - 1 : begin + (1 << 16)]]
        new[begin : begin + (1 << 16)] = (after[1:] != after[:-1]).any(1)
    first = np.empty(len(order), np.int32)
    first[order] = order[new][np.cumsum(new) - 1] if len(order) else 0
    return first


def _first_in_turn(
    entities: np.ndarray, mentions: np.ndarray, generations: Sequence[tuple[int, int]], widths: Sequence[int]
) -> np.ndarray:
    """Return what `_first` does of entities and mentions, the first being that of the earliest generation.

    Each row has `widths` hashes; numbers are those of entities, then of mentions.
    """
    sides, offsets = (entities, mentions), (0, len(entities))
    turns = [
        (side, wide * begin, wide * end, offset + wide * begin)
        for before, after in pairwise([(0, 0), *generations])
        for side, wide, offset, begin, end in zip(sides, widths, offsets, before, after, strict=True)
    ]
    numbers = np.concatenate([np.arange(first, first + end - begin, dtype=np.int32) for _, begin, end, first in turns])
    found = _first(np.concatenate([side[begin:end] for side, begin, end, _ in turns]))
    owners = np.empty(len(numbers), np.int32)
    owners[numbers] = numbers[found]
    return owners
