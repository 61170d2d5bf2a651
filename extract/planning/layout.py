"""How rows are cut into ranges and shards, and where the tokens of each distinct sentence stand in their table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from extract.reading.entity_columns import Told

Borders = list[tuple[int, int]]


@dataclass(frozen=True)
class Layout:
    """Where the rows of entity and mention are cut into the ranges that are computed at a time, and what came when.

    `generations` counts the rows of both after the first extraction and after each that added some.
    """

    borders: dict[str, Borders]
    generations: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Sentences:
    """The texts of a table's rows in their order; s has the token rows `edges[s]` to `edges[s + 1]`.

    Mentions have sentences, and rows of one stand together, so that each is there once within a range; entities have
    `name: text`. `of` (N,) is the text of each row.
    """

    read: Sequence[str]  # by row
    first_rows: np.ndarray  # of each text
    of: np.ndarray
    edges: np.ndarray

    @classmethod
    def counted(
        cls, texts: Sequence[str], cuts: Borders, counts: Callable[[Sequence[str]], Sequence[int]]
    ) -> "Sentences":
        """Lay out the texts of rows, grouped by them in each range; `counts` are the tokens of each of some."""
        begins = np.ones(len(texts), bool)
        begins[1:] = np.fromiter((after != before for before, after in pairwise(texts)), bool, max(0, len(texts) - 1))
        begins[[start for start, _ in cuts]] = True
        rows = np.flatnonzero(begins)
        edges = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts(Told(rows, texts.__getitem__)), out=edges[1:])
        return cls(texts, rows, np.cumsum(begins) - 1, edges)

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return int(self.edges[-1])

    @property
    def first(self) -> np.ndarray:
        """The token row where each row's text begins, (N,)."""
        return self.edges[self.of]

    @property
    def count(self) -> np.ndarray:
        """How many tokens each row's text has, (N,)."""
        return np.diff(self.edges)[self.of]

    def tokens_of(self, mention: int) -> np.ndarray:
        """Return the token rows of a mention's sentence."""
        sentence = self.of[mention]
        return np.arange(self.edges[sentence], self.edges[sentence + 1])

    def between(self, start: int, stop: int) -> list[str]:
        """Return the texts of rows `start` to `stop`, which must be all rows of each."""
        return [self.read[row] for row in self.first_rows[self.of[start] : self.of[stop - 1] + 1].tolist()]

    def edges_between(self, start: int, stop: int) -> np.ndarray:
        """Return the token rows where the texts of these rows begin, and where the last one ends."""
        return self.edges[self.of[start] : self.of[stop - 1] + 2]

    def sentence_at(self, row: int) -> str:
        """Return the sentence that a token row belongs to."""
        return self.read[self.first_rows[int(np.searchsorted(self.edges, row, "right")) - 1]]


def borders(count: int, size: int, groups: list[str] | None = None) -> Borders:
    """Cut `count` rows into ranges of `size`; with `groups`, a range grows until its last group is whole."""
    result, begin = [], 0
    while begin < count:
        end = min(begin + size, count)
        while groups is not None and end < count and groups[end] == groups[end - 1]:
            end += 1
        result.append((begin, end))
        begin = end
    return result


def pieces(edges: np.ndarray, size: int) -> Borders:
    """Cut the rows from the first to the last of `edges` at some of them, into as long runs as `size` allows.

    A run between two neighboring edges is never cut.
    """
    result, first = [], 0
    while first < len(edges) - 1:
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + size, "right")) - 1)
        result.append((int(edges[first]), int(edges[last])))
        first = last
    return result
