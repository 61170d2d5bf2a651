"""The mentions that a cache holds: found again by what they are made of, with their vectors."""

from collections.abc import Sequence

import numpy as np

from cache.kinds import IMAGE_STATUS
from cache.names import ColumnName
from cache.quantized import Quantized
from cache.reader import Reader
from cache.schema import SEQUENCES
from link.vectors.encoding import Drafted

CONTENTS = ("mention.ids.content_text", "mention.ids.content_image")
ID = "mention.ids.id"


class KnownMentions:
    """The mentions of a cache by the hashes of their text and picture; none where it was pulled without these."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rows: dict[bytes, list[int]] = {}
        self._maps: dict[str, list[tuple[int, np.ndarray | Quantized]]] = {}
        if {*CONTENTS, ID} <= set(reader.columns):
            self._ids = reader.strings(ID)
            for row, content in enumerate(np.concatenate([reader.column(name) for name in CONTENTS], 1)):
                self._rows.setdefault(content.tobytes(), []).append(row)

    def row(self, content: bytes, id: str | None) -> int:
        """Return the row of the mention of this content, of several the one of this id or the first; -1 if none is."""
        rows = self._rows.get(content, [-1])
        return next((row for row in rows if row >= 0 and self._ids[row] == id), rows[0])

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self._ids[row]

    def picture(self, row: int) -> str:
        """Return what became of a row's picture."""
        return IMAGE_STATUS[self._reader.column("mention.ids.image_status")[row]]

    def columns(
        self, names: Sequence[str], rows: np.ndarray, places: np.ndarray, drafted: Drafted | None
    ) -> dict[str, np.ndarray]:
        """Return columns of n mentions: of `rows` (n,) in the cache or, where that is -1, of drafted ones at `places`.

        Of tables of tokens those of each mention in turn, which are then pointed at.
        """
        by_table: dict[str, list[ColumnName]] = {}
        for name in map(ColumnName, names):
            by_table.setdefault(name.table, []).append(name)
        found: dict[str, np.ndarray] = {
            name: self._of_mentions(name, rows, places, drafted) for name in by_table.pop("mention", [])
        }
        moved: dict[str, np.ndarray] = {}
        for table, columns in by_table.items():
            first, count = (SEQUENCES[table].column(place) for place in ("first", "count"))
            tokens = [np.arange(f, f + c) for f, c in zip(found[first], found[count], strict=True)]
            for name in columns:
                found[name] = np.concatenate([
                    self._taken(name, at) if row >= 0 else _rows(drafted, name, at)
                    for row, at in zip(rows, tokens, strict=True)
                ])  # fmt: skip
            moved[first] = (np.cumsum(found[count]) - found[count]).astype(found[first].dtype)
        return found | moved

    def _of_mentions(self, name: str, rows: np.ndarray, places: np.ndarray, drafted: Drafted | None) -> np.ndarray:
        known = rows >= 0
        held = self._taken(name, rows[known])
        found = np.empty((len(rows), *held.shape[1:]), held.dtype)
        found[known] = held
        if not known.all():
            found[~known] = _rows(drafted, name, places[~known])
        return found

    def _taken(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows (n,) of a column of the cache, vectors that are stored as codes as float32."""
        if name not in self._maps:
            self._maps[name] = self._reader.pieces(name, check=False)
        pieces = self._maps[name]
        owners = np.searchsorted([start for start, _ in pieces], rows, "right") - 1
        found = np.empty((len(rows), *self._reader.shape(name)[1:]), self._reader.dtype(name))
        for owner in np.unique(owners):
            start, held = pieces[owner]
            found[owners == owner] = held[rows[owners == owner] - start]
        return found


def _rows(drafted: Drafted | None, name: str, rows: np.ndarray) -> np.ndarray:
    assert drafted is not None, "what is not known was drafted"
    return drafted.rows(name, rows)
