"""Entities by name, then by id, then by row: rows may be ordered by history, names and ids are not.

Where scores tie, candidates stand in this order, of which a search needs some hundred places: they are found when they
are asked for.
"""

from collections.abc import Sequence

import numpy as np

KEY = 32  # bytes that are compared together
WORD = 8
BLOCK = 1 << 14  # strings at a time
NUL, ESCAPED, END = b"\0", b"\0\xff", b"\0\0"  # so written, pairs of strings are ordered as their bytes are


class NameOrder:
    """The places of entities with these names and ids."""

    def __init__(self, names: Sequence[str], ids: Sequence[str]) -> None:
        self._names, self._ids = names, ids

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of some rows (n,) among themselves, (n,) int64."""
        rows = np.asarray(rows)
        order = np.argsort(rows, kind="stable")
        some = rows[order].tolist()
        found = sorted_rows([self._names[row] for row in some], [self._ids[row] for row in some])
        places = np.empty(len(rows), np.int64)
        places[order[found]] = np.arange(len(rows))
        return places


def sorted_rows(names: Sequence[str], ids: Sequence[str]) -> np.ndarray:
    """Return the order of names (n,), of equal ones by their ids, then as they stand: (n,) int32.

    Keys of KEY bytes are compared; of rows whose keys are equal, the next KEY bytes.
    """
    order, tied, begin = np.arange(len(names), dtype=np.int32), np.zeros(len(names), bool), 0
    tied[1:] = True  # with the row before it in order
    while tied.any():
        places = np.flatnonzero(tied | np.append(tied[1:], False))
        rows, groups = order[places], np.cumsum(~tied)[places]
        keys = _keys(names, ids, rows, begin)
        found = np.lexsort((*keys[::-1], groups))
        order[places], groups, keys = rows[found], groups[found], keys[:, found]
        tied[places] = np.concatenate([[False], (keys[:, 1:] == keys[:, :-1]).all(0) & (np.diff(groups) == 0)])
        tied[places] &= keys.any(0)  # equal ones are told by their rows
        begin += KEY
    return order


def _keys(names: Sequence[str], ids: Sequence[str], rows: np.ndarray, begin: int) -> np.ndarray:
    """Return so many bytes of rows (n,) from one on, as numbers that order as they do: (KEY / 8, n) uint64."""
    keys = np.empty((KEY // WORD, len(rows)), np.uint64)
    for at in range(0, len(rows), BLOCK):
        some = rows[at : at + BLOCK]
        low, high = int(some[0]), int(some[-1]) + 1
        if high - low == len(some) and (np.diff(some) == 1).all():  # at first all stand as they are
            pairs = zip(names[low:high], ids[low:high], strict=True)
        else:
            pairs = ((names[row], ids[row]) for row in some.tolist())
        told = np.array([_written(*pair)[begin : begin + KEY] for pair in pairs], f"S{KEY}")
        keys[:, at : at + len(some)] = told.view(">u8").reshape(len(some), -1).T
    return keys


def _written(name: str, id: str) -> bytes:
    return b"".join(text.encode("utf-8", "surrogatepass").replace(NUL, ESCAPED) + END for text in (name, id))
