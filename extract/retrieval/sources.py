"""What retrieves candidates, by name and by vectors, over one table of entities: prepared once, asked often."""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Protocol

import numpy as np

from extract.retrieval.by_name import NO_ALIASES, Aliases, Names
from extract.retrieval.by_vectors import DEPTH, NAMES, VECTORS, fused, origin
from extract.retrieval.name_order import NameOrder
from extract.retrieval.nearest import Nearest, Places, Stored

Column = Callable[[str], np.ndarray]  # from a column's name to its rows


class Searched(Protocol):
    """What finds the entities nearest to mentions, as Nearest does."""

    def best(self, mentions: np.ndarray, k: int, told: Callable[[int], None]) -> np.ndarray:
        """Return the k nearest of each mention, best first: (N, D) -> (N, k) int32, -1 = none."""
        ...


class Sources:
    """Some of names, text and joint, over entities with `names`, `ids`, and the columns that `entities` gives.

    `aliases` are other names of some, by row. `searching` searches vectors: exactly, or an index that may miss some.
    """

    def __init__(
        self,
        sources: Sequence[str],
        names: Sequence[str],
        ids: Sequence[str],
        entities: Callable[[str], Stored],
        aliases: Aliases = NO_ALIASES,
        searching: Callable[[str, Stored, Places], Searched] = lambda source, *given: Nearest(*given),
    ) -> None:
        self.sources, self._count, self._order = tuple(sources), len(names), NameOrder(names, ids)
        self._names = Names(names, ids, aliases) if NAMES in sources else None
        self._nearest = {
            source: searching(source, entities(VECTORS[source][1]), self._order)
            for source in sources
            if source != NAMES
        }

    def best(
        self, surfaces: Sequence[str], mentions: Column, length: int, told: Callable[[str, int], None]
    ) -> np.ndarray:
        """Return the best `length` entities of each mention, of all where there are fewer: rows (N, length) int32.

        Of each their string is known, and `mentions` gives the columns of vectors; `told` hears of each source how many
        more are done.
        """
        width = min(length, self._count)
        depth = width if len(self.sources) == 1 else min(DEPTH * width, self._count)
        lists = [self._ranked(source, surfaces, mentions, depth, told) for source in self.sources]
        return lists[0] if len(lists) == 1 else fused(lists, width, self._order)

    def _ranked(
        self, source: str, surfaces: Sequence[str], mentions: Column, depth: int, told: Callable[[str, int], None]
    ) -> np.ndarray:
        def done(count: int) -> None:
            told(source, count)

        if source == NAMES:
            assert self._names is not None, "it is one of the sources"
            return self._names.best(surfaces, depth, done)[0]
        return self._nearest[source].best(vectors(source, mentions), depth, done)


def vectors(source: str, mentions: Column) -> np.ndarray:
    """Return the vectors (N, D) of mentions that a source compares, a span's sentence where it was not found."""
    found = mentions(VECTORS[source][0])
    if source == "text":
        found, lost = found.copy(), ~mentions("mention.text.found")
        found[lost] = mentions("mention.text.sentence")[lost]
    return found


def columns(sources: Sequence[str]) -> list[str]:
    """Return the columns that sources compare."""
    more = ("mention.text.found", "mention.text.sentence") if "text" in sources else ()
    return [*(name for source in sources if source != NAMES for name in VECTORS[source]), *more]


def named(told: str) -> tuple[str, ...] | None:
    """Return the sources of lists whose recipe tells this origin, None for lists of a release."""
    known = (NAMES, *VECTORS)
    every = (some for count in range(1, len(known) + 1) for some in permutations(known, count))
    return next((some for some in every if origin(some) == told), None)
