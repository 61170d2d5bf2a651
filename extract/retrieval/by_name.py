"""Candidate entities of a mention by its string alone: rapidfuzz's token_set_ratio against every name.

Strings are compared after rapidfuzz's default processing (lower case, everything but letters and digits to blanks,
trimmed). A score is that ratio / 100, in [0, 1] as float32; a string that is empty then scores 0 against all. Few names
are compared with every string, all by an index that leaves out what cannot be among the best (`name_index`): the
lists are the same.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from rapidfuzz import fuzz, process

from extract.retrieval.name_index import NameIndex, form, in_unit
from extract.retrieval.name_order import sorted_rows

Aliases = Mapping[int, Sequence[str]]  # by index of the name
NO_ALIASES: Aliases = {}
CHUNK_BYTES = 32 << 20  # of scores in float64 at a time
FEW = 10_000  # names for each core: comparing all of them takes as long as the index does


class Names:
    """Names of entities, prepared to be compared with many strings; `aliases` are others of some, by index."""

    def __init__(self, names: Sequence[str], ids: Sequence[str] = (), aliases: Aliases = NO_ALIASES) -> None:
        self._order = sorted_rows(names, ids or [""] * len(names))
        self._forms, self._owners = _forms(names, self._order.tolist(), aliases)

    def best(
        self, surfaces: Sequence[str], k: int, progress: Callable[[int], None] | None = None, workers: int = -1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best names of each surface: their indices int32 (N, k) and scores float32 (N, k).

        One with aliases scores as the best of all. Best score first, ties by name, then by id and index, -1 and 0
        where there are fewer than k names. Every distinct surface is compared once; `workers` threads (-1: all
        cores) compare few names, which does not change the result. `progress` is told how many more distinct surfaces
        are done.
        """
        distinct = {surface: row for row, surface in enumerate(dict.fromkeys(surfaces))}
        queries = [form(surface) for surface in distinct]
        width = min(k, len(self._order))
        found = np.full((len(queries), k), -1, np.int32)
        scores = np.zeros((len(queries), k), np.float32)
        few = len(self._forms) <= FEW * (workers if workers > 0 else os.cpu_count() or 1)
        step = max(1, CHUNK_BYTES // (8 * max(1, len(self._forms)))) if few else 1
        for begin in range(0, len(queries) if width else 0, step):
            rows = slice(begin, begin + step)
            if few:
                compared = _best_of_each(_compare(queries[rows], self._forms, workers), self._owners)
                places, scores[rows, :width] = _best(compared, width)
            else:
                places, scores[rows, :width] = self._index.best(queries[begin], width)
            found[rows, :width] = self._order[places]
            if progress is not None:
                progress(len(queries[rows]))
        rows = np.array([distinct[surface] for surface in surfaces], np.intp)
        return found[rows], scores[rows]

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self._forms, self._owners, len(self._order))


def retrieve(
    surfaces: Sequence[str],
    names: Sequence[str],
    k: int,
    progress: Callable[[int], None] | None = None,
    workers: int = -1,
    ids: Sequence[str] = (),
    aliases: Aliases = NO_ALIASES,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of names for each surface, as Names.best does."""
    return Names(names, ids, aliases).best(surfaces, k, progress, workers)


def lexical(
    surfaces: Sequence[str], names: Sequence[str], candidates: np.ndarray, aliases: Aliases = NO_ALIASES
) -> np.ndarray:
    """Return the same score for given lists: candidates (N, C) indices of names, -1 = padding -> float32 (N, C).

    Padding scores 0.
    """
    listed = np.unique(candidates).tolist()
    forms = {index: [form(names[index]), *map(form, aliases.get(index, ()))] for index in listed if index >= 0}
    found = np.zeros(candidates.shape, np.float32)
    for row, (surface, listed) in enumerate(zip(surfaces, candidates, strict=True)):
        there = listed >= 0
        called = [forms[index] for index in listed[there].tolist()]
        if called:
            owners = np.repeat(np.arange(len(called)), [len(each) for each in called])
            scores = _compare([form(surface)], [each for one in called for each in one], workers=1)
            found[row, there] = _best_of_each(scores, owners)[0]
    return found


def recall_at_k(gold_index: np.ndarray, ks: Sequence[int]) -> list[float]:
    """Return for each k the fraction of mentions with gold among the first k candidates.

    gold_index (N,) is the position of gold among them, -1 when it is not there.
    """
    there = gold_index[gold_index >= 0]
    return [float((there < k).sum() / max(1, len(gold_index))) for k in ks]


def _forms(names: Sequence[str], order: Sequence[int], aliases: Aliases) -> tuple[list[str], np.ndarray]:
    """Return the forms of all names in an order, each followed by its aliases, and which of them each is of."""
    if not aliases:
        return [form(names[index]) for index in order], np.arange(len(order), dtype=np.int32)
    called = [(names[index], *aliases.get(index, ())) for index in order]
    owners = np.repeat(np.arange(len(called), dtype=np.int32), [len(each) for each in called])
    return [form(text) for each in called for text in each], owners


def _best_of_each(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return the best score of each owner, (n, strings) -> (n, owners); `owners` (strings,) ascend."""
    if not len(owners) or owners[-1] == len(owners) - 1:
        return scores
    return np.maximum.reduceat(scores, np.flatnonzero(np.diff(owners, prepend=-1)), axis=1)


def _compare(queries: list[str], choices: list[str], workers: int) -> np.ndarray:
    ratios = process.cdist(queries, choices, scorer=fuzz.token_set_ratio, dtype=np.float64, workers=workers)
    return in_unit(ratios)


def _best(scores: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and scores of the `width` best of each row, ties by column: (n, E) -> (n, width) twice.

    Score and column are packed into one integer, because a partition by score alone cuts ties at random. The bits
    of a float that is not negative order as the float does.
    """
    last = scores.shape[1] - 1
    keys = (scores.view(np.int32).astype(np.int64) << 32) | (last - np.arange(last + 1))
    keys = np.sort(np.partition(keys, last + 1 - width, axis=1)[:, last + 1 - width :], axis=1)[:, ::-1]
    return last - (keys & 0xFFFFFFFF), (keys >> 32).astype(np.int32).view(np.float32)
