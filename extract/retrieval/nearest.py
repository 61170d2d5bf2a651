"""The entities nearest to a mention by cosine, exactly, at a quarter of the bytes: codes of eight bits, then a recheck.

Entities that may be among the k nearest by their codes, some hundreds out of millions, are compared by their stored
vectors: products of vectors on the grid (cache.edges) are exact in float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from cache import edges
from cache.quantized import Quantized
from extract.retrieval.codes import Codes, Kept, Possible, in_chunks, room

BLOCK = 16  # mentions compared at a time
RECHECKED = 1 << 13  # entities whose stored vectors are read at a time
HELD = 1 << 23  # pairs of a mention and an entity that may be among its nearest, of 20 bytes, in one pass of Once
EACH, OF_K = 1 << 12, 8  # of them for a mention, and at least so many times k: some times as many as it needs
Told = Callable[[int], None]


class Stored(Protocol):
    """Rows of vectors (E, D) that lie somewhere: an array, or the maps of a cache's shards."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return some rows."""
        ...


class Places(Protocol):
    """Where entities stand that tie: an array (E,), or what finds it when it is asked for."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return numbers of some rows (n,), the lower ones first, (n,)."""
        ...


class Mapped:
    """Rows of a column in the maps of its shards, `pieces` as cache.Reader.pieces gives them."""

    def __init__(self, pieces: Sequence[tuple[int, np.ndarray | Quantized]]) -> None:
        self._rows, self._starts = [rows for _, rows in pieces], np.array([start for start, _ in pieces])
        self.shape = (sum(map(len, self._rows)), *self._rows[0].shape[1:])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        owners = np.searchsorted(self._starts, rows, "right") - 1
        for owner in np.unique(owners):
            inside = np.flatnonzero(owners == owner)
            found[inside] = self._rows[owner][rows[inside] - self._starts[owner]]
        return found


class _Search(ABC):
    """Vectors of entities (E, D) that mentions are compared with; `order` is their place where they tie."""

    def __init__(self, entities: Stored, order: Places) -> None:
        self._entities, self._order, self._count = entities, order, entities.shape[0]

    def best(self, mentions: np.ndarray, k: int, told: Told) -> np.ndarray:
        """Return the k entities nearest to each mention (N, D) by cosine, best first: rows (N, k) int32.

        The lists depend on the vectors alone. `told` hears of mentions that are done.
        """
        width = min(k, self._count)
        found, step = np.empty((len(mentions), width), np.int32), self._together(width)
        for begin in range(0, len(mentions), step):
            block = unit(mentions[begin : begin + step])
            asked = np.flatnonzero(block.any(1)) if width else np.arange(0)
            possible = self._possible(block[asked], width, told) if len(asked) else []
            for place, rows in zip(asked, possible, strict=True):
                found[begin + place] = self._nearest(block[place], rows, width)
            if width and len(asked) < len(block):  # as far from all: none need be compared
                found[begin + np.flatnonzero(~block.any(1))] = self._first(width)
            told(len(block) - len(asked))
        return found

    @abstractmethod
    def _together(self, k: int) -> int:
        """Return how many mentions are compared at a time."""

    @abstractmethod
    def _possible(self, mentions: np.ndarray, k: int, told: Told) -> list[np.ndarray]:
        """Return for each mention (B, D) rows of entities among which are its k nearest, all that are."""

    def _units(self, rows: np.ndarray) -> np.ndarray:
        return unit(self._entities[rows])

    def _nearest(self, mention: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
        """Return the k nearest of some rows to a mention (D,), best first."""
        best, scores = rows[:0], np.empty(0)
        for begin in range(0, len(rows), RECHECKED):
            some = rows[begin : begin + RECHECKED]
            exact = self._units(some).astype(np.float64) @ mention.astype(np.float64)
            best, scores = np.concatenate([best, some]), np.concatenate([scores, exact])
            best, scores = best_first(best, scores, self._order, k)
        return best

    def _first(self, k: int) -> np.ndarray:
        """Return the first k rows in their order."""
        best = np.arange(0)
        for begin in range(0, self._count, RECHECKED):
            some = np.concatenate([best, np.arange(begin, min(begin + RECHECKED, self._count))])
            best = some[np.argsort(self._order[some], kind="stable")[:k]]
        return best


class Nearest(_Search):
    """What is prepared to be asked often: codes of all entities, in memory or where they are `kept`."""

    def __init__(self, entities: Stored, order: Places, kept: Kept | None = None) -> None:
        super().__init__(entities, order)
        self._codes = Codes(self._units, entities.shape, kept)

    def _together(self, k: int) -> int:
        return BLOCK

    def _possible(self, mentions: np.ndarray, k: int, told: Told) -> list[np.ndarray]:
        found = self._codes.possible(mentions, k, lambda place, rows: self._nearest(mentions[place], rows, k))
        told(len(mentions))
        return found


class Once(_Search):
    """What is asked once, for many mentions: all are compared with some entities at a time, whose codes are not kept.

    Memory grows with neither the entities nor the mentions; entities are read once for some thousand mentions.
    """

    def _together(self, k: int) -> int:
        return max(BLOCK, HELD // max(EACH, OF_K * k) // BLOCK * BLOCK)

    def _possible(self, mentions: np.ndarray, k: int, told: Told) -> list[np.ndarray]:
        each, blocks, done = max(EACH, OF_K * k), [], 0
        every = room(each * len(mentions))
        for begin in range(0, len(mentions), BLOCK):
            some, pairs = mentions[begin : begin + BLOCK], slice(begin * each, (begin + BLOCK) * each)
            own = (every[0][pairs], every[1][pairs], every[2][pairs])
            blocks.append(Possible(some, k, partial(self._nearest_of, some, k), own))
        for begin, codes, numbers in in_chunks(self._units, self._entities.shape):
            for block in blocks:
                block.compare(begin, codes, numbers)
            now = len(mentions) * (begin + len(codes)) // self._count
            told(now - done)
            done = now
        return [rows for block in blocks for rows in block.rows()]

    def _nearest_of(self, mentions: np.ndarray, k: int, place: int, rows: np.ndarray) -> np.ndarray:
        return self._nearest(mentions[place], rows, k)


def best_first(rows: np.ndarray, scores: np.ndarray, order: Places, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k rows with the highest scores, best first, equal ones in order, and their scores: (n,) -> (k,)."""
    by_score = np.argsort(-scores, kind="stable")
    rows, scores = rows[by_score], scores[by_score]
    if len(rows) > k:
        count = np.searchsorted(-scores, -scores[k - 1], "right")
        rows, scores = rows[:count], scores[:count]
    same = np.append(scores[1:] == scores[:-1], False)
    tied = np.flatnonzero(same | np.append(False, same[:-1]))
    if len(tied):
        rows[tied] = rows[tied[np.lexsort((order[rows[tied]], -scores[tied]))]]
    return rows[:k], scores[:k]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1 on the grid, float32 (n, D)."""
    found = np.empty(vectors.shape, np.float32)
    for begin in range(0, len(vectors), edges.ROWS):
        rows = slice(begin, begin + edges.ROWS)
        found[rows] = edges.rounded(vectors[rows].astype(np.float64), normal=True)
    return found
