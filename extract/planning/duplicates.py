"""Which row owns each repeated text and picture: the first one. It alone is encoded, all others copy its vector."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from cache import kinds
from cache.names import ColumnName, PartName
from extract.planning.rows import Picture, Rows, entity_text

ASKING = {"entity": ("entity", "mention"), "mention": ("mention",)}  # rows of which tables may copy from a table's


class Row(NamedTuple):
    """A row of a table."""

    table: str
    row: int


class Slot(NamedTuple):
    """What a row has in a column."""

    column: ColumnName
    row: int


class Owners:
    """Owners of texts and pictures, in row order, entities before mentions, one generation after the other.

    So every distinct item is encoded once, whatever was interrupted in between. Entities never copy from mentions: a
    later entity with a picture that only a mention had is encoded again. In parts that only mentions have, the first
    mention owns a picture, be it an entity's too.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.pictures: dict[str, list[Picture]] = {
            table: [rows.picture(record.image) for record in rows.records(table)] for table in ("entity", "mention")
        }
        self._of_entity_text: dict[str, int] = {}
        for row, entity in enumerate(rows.entities):
            self._of_entity_text.setdefault(entity_text(entity), row)
        # by the table whose row asks: an entity's item is never a mention's, because entities come first
        self._of_picture: dict[str, dict[bytes, Row]] = {"entity": {}, "mention": {}}
        self._of_text: dict[str, dict[str, Slot]] = {"entity": {}, "mention": {}}
        self._of_mention_picture: dict[bytes, Row] = {}
        for owner in _in_turn(rows.layout.generations):
            table, row = owner
            content, _ = self.pictures[table][row]
            if any(content):
                for asking in ASKING[table]:
                    self._of_picture[asking].setdefault(content, owner)
                if table == "mention":
                    self._of_mention_picture.setdefault(content, owner)
            [part] = kinds.reading("texts", table)
            for column, text in rows.texts(table, row).items():
                for asking in ASKING[table]:
                    self._of_text[asking].setdefault(text, Slot(part.column(column), row))

    def of_entity_text(self, row: int) -> int:
        """Return the entity that owns the text `name: text` of one."""
        return self._of_entity_text[entity_text(self._rows.entities[row])]

    def of_text(self, table: str, text: str) -> Slot:
        """Return the column and the row that own a text of which a column of a table holds the vector."""
        return self._of_text[table][text]

    def owns_picture(self, table: str, row: int) -> bool:
        """Whether a picture is encoded for this row in the parts that entities and mentions have."""
        return self._of_picture[table].get(self.pictures[table][row][0]) == (table, row)

    def of_picture(self, part: PartName, row: int) -> Row | None:
        """Return the row that owns the picture of a row of a part, None where there is no file."""
        owners = self._of_mention_picture if kinds.mentions_alone(part) else self._of_picture[part.table]
        return owners.get(self.pictures[part.table][row][0])

    def asked(self, table: str, row: int) -> Iterator[Row]:
        """Yield the rows, of whatever table, that own what a row of entity or mention has."""
        if table == "entity":
            yield Row(table, self.of_entity_text(row))
        for text in self._rows.texts(table, row).values():
            slot = self.of_text(table, text)
            yield Row(slot.column.table, slot.row)
        for part in kinds.reading("picture", table):
            if (owner := self.of_picture(part, row)) is not None:
                yield owner


def _in_turn(generations: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Yield all rows: of each generation its entities, then its mentions."""
    for before, after in pairwise([(0, 0), *generations]):
        for table, begin, end in zip(("entity", "mention"), before, after, strict=True):
            yield from (Row(table, row) for row in range(begin, end))
