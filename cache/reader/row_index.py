"""The row of a string in a column, found by hash: 12 bytes a row, where a dictionary takes 150."""

from collections.abc import Iterator, Sequence

import numpy as np

from cache.reader.strings import Strings

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
HALF, WORD = np.uint64(32), 8
BLOCK = 1 << 14  # strings that are hashed together


class RowIndex:
    """The rows of strings, which should be distinct; of equal ones the last counts."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        hashes = np.concatenate([np.empty(0, np.uint64), *map(_hashes, _blocks(strings))])
        self._rows = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._rows]

    def find(self, string: str) -> int | None:
        """Return the row of a string, None where there is none."""
        return self.found([string])[0]

    def found(self, strings: Sequence[str]) -> list[int | None]:
        """Return the rows of strings, None where there is none."""
        asked = np.concatenate([np.empty(0, np.uint64), *map(_hashes, _blocks(strings))])
        firsts, lasts = (np.searchsorted(self._hashes, asked, side).tolist() for side in ("left", "right"))
        return [self._among(first, last, string) for first, last, string in zip(firsts, lasts, strings, strict=True)]

    def _among(self, first: int, last: int, string: str) -> int | None:
        """Return the last of the rows in some places that has this string."""
        rows = self._rows[first:last][::-1].tolist()
        return next((row for row in rows if self._strings[row] == string), None)


def _blocks(strings: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the bytes of strings, some at a time."""
    stored = strings.pieces if isinstance(strings, Strings) else [strings]
    for some in stored:
        for begin in range(0, len(some), BLOCK):
            block = some[begin : begin + BLOCK]
            yield block if isinstance(block, np.ndarray) else np.array([_bytes(string) for string in block])


def _bytes(string: str) -> bytes:
    return string.encode("utf-8", "surrogatepass")


def _hashes(strings: np.ndarray) -> np.ndarray:
    """Return a number of each string (n,), uint64 (n,): the same one whatever the width of the column."""
    width = max(1, -(-strings.dtype.itemsize // WORD))
    words = strings.astype(f"S{WORD * width}").view("<u8").reshape(-1, width).T
    found = np.zeros(len(strings), np.uint64)
    for word in words:  # what lies behind a string's end is 0
        mixed = (found ^ word) * SPREAD
        found = np.where(word == 0, found, mixed ^ (mixed >> HALF))
    return found
