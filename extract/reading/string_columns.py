"""Texts of records as columns of strings, cut out where they are asked for: all names of 6,000,000 take 1.5 GB."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from common.records import Entity, Mention
from extract.reading import entity_columns

MOST_BYTES = 256  # of a string


class Told(Sequence[str]):
    """What a function tells of each of some, asked for whenever it is needed."""

    def __init__(self, some: Sequence[Any] | np.ndarray, tell: Callable[[Any], str]) -> None:
        self._some, self._tell = some, tell

    def __len__(self) -> int:
        return len(self._some)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return list(map(self._tell, self._some[row]))
        return self._tell(self._some[row])

    def __iter__(self) -> Iterator[str]:
        return map(self._tell, self._some)


class StringColumn:
    """A field of records as a column of fixed-length UTF-8, zero padded, each as `stored`, made where it is asked for.

    As wide as 16 bytes or the power of two that all need, so that few new texts change the type.
    """

    def __init__(self, records: Sequence[Entity] | Sequence[Mention], field: str) -> None:
        self._texts = entity_columns.field(records, field)
        longest = max((len(stored(text)) for text in self._texts), default=0)
        self.dtype = np.dtype(f"|S{1 << (max(16, longest) - 1).bit_length()}")

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.array(list(map(stored, self._texts[rows])), self.dtype)


def stored(value: str, limit_bytes: int = MOST_BYTES) -> bytes:
    """Return a text as a column of strings holds it: longer ones are cut at a character, NUL is replaced."""
    return _cut(value.replace("\0", "\ufffd").encode("utf-8", "replace"), limit_bytes)


def _cut(text: bytes, limit_bytes: int) -> bytes:
    return text if len(text) <= limit_bytes else text[:limit_bytes].decode("utf-8", "ignore").encode()
