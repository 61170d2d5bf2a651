"""A column of strings as it lies in its shards: decoded where it is asked for, as 6,000,000 of Python's take 0.5 GB."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from common.errors import CacheError

BLOCK = 1024  # strings that are decoded together


class Strings(Sequence[str]):
    """The strings of a column, `pieces` as cache.Reader.pieces gives them; equal to a list of the same strings.

    Taking one that is not UTF-8 raises CacheError, naming `column`, its row and `path`.
    """

    def __init__(self, column: str, path: Path, pieces: Sequence[tuple[int, np.ndarray]]) -> None:
        self._told = column, path
        self.pieces = [rows for _, rows in pieces]
        self._starts = np.array([start for start, _ in pieces])
        self._count = sum(map(len, self.pieces))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[place] for place in range(self._count)[row]]
        place = range(self._count)[row]
        piece = int(np.searchsorted(self._starts, place, "right")) - 1
        return self._decoded(bytes(self.pieces[piece][place - self._starts[piece]]), place)

    def __iter__(self) -> Iterator[str]:
        for start, rows in zip(self._starts.tolist(), self.pieces, strict=True):
            for begin in range(0, len(rows), BLOCK):
                for place, text in enumerate(rows[begin : begin + BLOCK].tolist(), start + begin):
                    yield self._decoded(text, place)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(mine == its for mine, its in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def _decoded(self, text: bytes, row: int) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            column, path = self._told
            raise CacheError(f"{column} of row {row} in {path} is not UTF-8: {error.reason}") from None
