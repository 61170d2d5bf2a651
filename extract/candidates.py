"""Fuzzy candidate retrieval by name: rapidfuzz's token_set_ratio, as in the WikiMEL papers, made deterministic."""

from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz, process, utils

CHUNK = 256  # strings per call: 256 x 110,000 names is 113 MB of scores


def retrieve(
    surfaces: Sequence[str],
    names: Sequence[str],
    k: int,
    progress: Callable[[int], None] | None = None,
    workers: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best names of each surface: rows of `names` (N, k) int32 and scores (N, k) float32 in [0, 1].

    Best first, ties by name, then by row; -1 and 0 where there are fewer than k names. Each distinct surface is
    compared once with every name.
    """
    by_name = np.array(sorted(range(len(names)), key=lambda row: (names[row], row)), np.int32)
    sorted_names = [utils.default_process(names[row]) for row in by_name]
    distinct = list(dict.fromkeys(surfaces))
    width = min(k, len(names))
    found = np.full((len(distinct), k), -1, np.int32)
    best = np.zeros((len(distinct), k), np.float32)
    for begin in range(0, len(distinct), CHUNK):
        queries = [utils.default_process(surface) for surface in distinct[begin : begin + CHUNK]]
        scores = process.cdist(queries, sorted_names, scorer=fuzz.token_set_ratio, dtype=np.float32, workers=workers)
        for row, line in enumerate(scores, begin):
            top = _top(line, width)
            found[row, :width], best[row, :width] = by_name[top], line[top] / 100
        if progress is not None:
            progress(len(queries))
    place = {surface: row for row, surface in enumerate(distinct)}
    rows = [place[surface] for surface in surfaces]
    return found[rows], best[rows]


def lexical(surfaces: Sequence[str], names: Sequence[str], candidates: np.ndarray) -> np.ndarray:
    """Return the score of given lists: candidates (N, C) rows of `names`, -1 = padding -> (N, C) float32 in [0, 1]."""
    processed = [utils.default_process(name) for name in names]
    result = np.zeros(candidates.shape, np.float32)
    for row, surface in enumerate(surfaces):
        query = utils.default_process(surface)
        for column, entity in enumerate(candidates[row].tolist()):
            if entity >= 0:
                result[row, column] = np.float32(fuzz.token_set_ratio(query, processed[entity])) / 100
    return result


def recall_at_k(gold: np.ndarray, ks: Sequence[int]) -> list[float]:
    """Return the fraction of mentions whose gold is among the first k: gold (N,) positions, -1 = not there."""
    return [float(np.mean((gold >= 0) & (gold < k))) if len(gold) else 0.0 for k in ks]


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the k best positions, best first, ties by position; a full sort only of those that can be among them."""
    bar = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, level = np.flatnonzero(scores > bar), np.flatnonzero(scores == bar)
    chosen = np.concatenate([above, level[: k - len(above)]])
    return chosen[np.lexsort((chosen, -scores[chosen]))]
