"""The entities nearest to a mention by cosine, exactly, at a quarter of the bytes: codes of eight bits, then a recheck.

A vector e of an entity is kept as codes c of a byte each and a scale s; the length of what they leave, r = e - s c, is
known. A mention's vector q is one or two such rows, the second of what the first leaves, and p what is left. Sums of
products of codes are exact integers. By Cauchy and Schwarz they miss the cosine by at most |r||q| + |s c||p|. Entities
that may be among the k nearest then, some hundreds out of millions, are compared by their stored vectors: products of
vectors on the grid (cache.edges) are exact in float64.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cache import edges
from cache.quantized import Quantized

BLOCK, CHUNK = 16, 1 << 16  # mentions and entities compared at a time
GROUP = 64  # entities of which the best stands for all, where a bound of the k nearest is looked for
RECHECKED = 1 << 13  # entities whose stored vectors are read at a time
KEPT = 1 << 21  # pairs of a mention and an entity that may be among its nearest, beside those of a chunk: 20 bytes each
STEPS = 127  # of a code
SLACK = 1e-6  # more than float32 rounds off a sum of scales times integers that is about 1
Told = Callable[[int], None]
Kept = tuple[Tensor, Tensor, Tensor]  # rows of entities, places of mentions, and bounds of their cosines, each (n,)


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


class Nearest:
    """Vectors of entities (E, D), prepared to be compared with many; `order` is their place where they tie."""

    def __init__(self, entities: Stored, order: Places) -> None:
        count, width = entities.shape
        self._entities, self._order = entities, order
        self._codes = torch.empty(count, width, dtype=torch.int8)
        self._scales, self._errors, self._lengths = (torch.empty(count) for _ in range(3))
        for begin in range(0, count, edges.ROWS):
            rows = np.arange(begin, min(begin + edges.ROWS, count))
            scales, codes, rest = _coded(unit(entities[rows]))
            self._codes[begin : rows[-1] + 1] = torch.from_numpy(codes)
            self._scales[begin : rows[-1] + 1] = torch.from_numpy(scales)
            self._errors[begin : rows[-1] + 1] = torch.from_numpy(_length(rest))
            self._lengths[begin : rows[-1] + 1] = torch.from_numpy(_length(scales[:, None] * codes.astype(np.float64)))

    def best(self, mentions: np.ndarray, k: int, told: Told) -> np.ndarray:
        """Return the k entities nearest to each mention (N, D) by cosine, best first: rows (N, k) int32.

        The lists depend on the vectors alone. `told` hears of mentions that are done.
        """
        width = min(k, len(self._codes))
        found = np.empty((len(mentions), width), np.int32)
        for begin in range(0, len(mentions), BLOCK):
            block = unit(mentions[begin : begin + BLOCK])
            asked = np.flatnonzero(block.any(1)) if width else np.arange(0)
            for place, rows in zip(asked, self._possible(block[asked], width) if len(asked) else [], strict=True):
                found[begin + place] = self._nearest(block[place], rows, width)
            if width and len(asked) < len(block):  # as far from all: none need be compared
                found[begin + np.flatnonzero(~block.any(1))] = self._in_order[:width]
            told(len(block))
        return found

    def _possible(self, mentions: np.ndarray, k: int) -> list[np.ndarray]:
        """Return for each mention (B, D) the rows of entities that may be among the k nearest; all that are, are."""
        scales, codes, rest = _coded(mentions)
        count = len(mentions)
        if count > 1:  # of one mention the second row of codes would take longer than what it saves
            finer, second, rest = _coded(rest)
            scales, codes = np.concatenate([scales, finer]), np.concatenate([codes, second])
        asked, steps = torch.from_numpy(codes).T.contiguous(), torch.from_numpy(scales)
        lengths, left = torch.from_numpy(_length(mentions)), torch.from_numpy(_length(rest))
        floor = torch.full((k, count), -torch.inf)  # k entities have scores of at least so much
        kept: list[Kept] = []
        for begin in range(0, len(self._codes), CHUNK):
            rows = slice(begin, begin + CHUNK)
            sums = torch._int_mm(self._codes[rows], asked) * steps
            scores = sums.view(len(sums), -1, count).sum(1).mul_(self._scales[rows, None])
            error = self._errors[rows, None] * lengths + self._lengths[rows, None] * left + SLACK
            floor = torch.cat([floor, _highest(scores - error, k)]).topk(k, dim=0).values
            most = scores.add_(error)
            row, mention = (most >= floor[-1]).nonzero(as_tuple=True)
            kept.append((row + begin, mention, most[row, mention]))
            if sum(len(rows) for rows, *_ in kept) > KEPT:
                kept = [self._fewer(_reaching(kept, floor[-1]), mentions, k)]
        row, mention, _ = _reaching(kept, floor[-1])
        return [row[mention == one].numpy() for one in range(count)]

    def _fewer(self, kept: Kept, mentions: np.ndarray, k: int) -> Kept:
        """Return of each mention (B, D) the k nearest of those kept, by their stored vectors, where there are many."""
        row, mention, _ = kept
        if len(row) <= KEPT // 2:
            return kept
        found = [self._nearest(each, row[mention == one].numpy(), k) for one, each in enumerate(mentions)]
        places = torch.repeat_interleave(torch.tensor([len(rows) for rows in found]))
        return torch.from_numpy(np.concatenate(found)), places, torch.full((len(places),), torch.inf)

    def _nearest(self, mention: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
        """Return the k nearest of some rows to a mention (D,), best first."""
        best, scores = rows[:0], np.empty(0)
        for begin in range(0, len(rows), RECHECKED):
            some = rows[begin : begin + RECHECKED]
            exact = unit(self._entities[some]).astype(np.float64) @ mention.astype(np.float64)
            best, scores = np.concatenate([best, some]), np.concatenate([scores, exact])
            best, scores = best_first(best, scores, self._order, k)
        return best

    @cached_property
    def _in_order(self) -> np.ndarray:
        """All rows in their order, (E,)."""
        return np.argsort(self._order[np.arange(len(self._codes))], kind="stable")


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


def _reaching(kept: Sequence[Kept], floor: Tensor) -> Kept:
    """Return what was kept and has a bound that still reaches its mention's floor (B,)."""
    row, mention, most = (torch.cat(some) for some in zip(*kept, strict=True))
    there = most >= floor[mention]
    return row[there], mention[there], most[there]


def _highest(scores: Tensor, k: int) -> Tensor:
    """Return k scores of each column (n, B), or as many as there are, none above its k highest: (m, B)."""
    size = max(1, min(GROUP, len(scores) // (4 * k)))
    some = scores[: len(scores) // size * size].view(-1, size, scores.shape[1]).amax(1)
    return some.topk(min(k, len(some)), dim=0).values


def _coded(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scales (n,) float32, codes (n, D) int8, and what is left of the vectors (n, D), float64."""
    values = vectors.astype(np.float64)
    scales = (np.abs(values).max(1, initial=0) / STEPS).astype(np.float32)
    steps = np.where(scales > 0, scales, 1)[:, None].astype(np.float64)
    codes = (values / steps).round().clip(-STEPS, STEPS)
    return scales, codes.astype(np.int8), values - codes * scales[:, None].astype(np.float64)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each row (n, D), rounded up: (n,) float32."""
    return (np.linalg.norm(vectors, axis=1) * (1 + SLACK)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1 on the grid, float32 (n, D)."""
    found = np.empty(vectors.shape, np.float32)
    for begin in range(0, len(vectors), edges.ROWS):
        rows = slice(begin, begin + edges.ROWS)
        found[rows] = edges.rounded(vectors[rows].astype(np.float64), normal=True)
    return found
