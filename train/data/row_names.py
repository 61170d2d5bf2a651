"""What rows are called: the strings of a column, or their numbers where the cache came without it."""

from collections.abc import Sequence
from typing import overload

from cache import Reader
from cache.names import ColumnName


class Numbers(Sequence[str]):
    """The numbers of rows as strings, made when they are asked for."""

    def __init__(self, rows: int) -> None:
        self._rows = range(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        return list(map(str, self._rows[row])) if isinstance(row, slice) else str(self._rows[row])


def row_names(reader: Reader, column: str) -> Sequence[str]:
    """Return the strings of a column by row; row numbers where the cache lacks it, as synthetic ones lack ids."""
    rows = reader.manifest.tables[ColumnName(column).table]
    return reader.strings(column) if column in reader.columns else Numbers(rows)
