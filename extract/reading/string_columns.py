"""Texts of records as columns of strings, cut out where they are asked for: all names of 6,000,000 take 1.5 GB."""

from collections.abc import Sequence

import numpy as np

from common.records import Entity, Mention
from extract.reading import entity_columns

MOST_BYTES = 256  # of a string


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
