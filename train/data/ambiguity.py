"""Which mentions are ambiguous: the string matcher cannot choose between two or more entities of their list.

That needs no label, no split and no training: the string scores of the stored lists say it, under every protocol.
"""

import numpy as np

from cache import Reader

READS = ("pair.candidates.candidates", "pair.candidates.lexical")
TOLD = "ambiguous: two or more entities of the list share the best string score"


def matches(candidates: np.ndarray, lexical: np.ndarray) -> np.ndarray:
    """Return how many entities of each list match the string as well as the best one does; of no list 0.

    candidates (N, C), -1 = padding, lexical (N, C) -> (N,)
    """
    scores = np.where(candidates >= 0, lexical, -np.inf)
    return ((candidates >= 0) & (scores == scores.max(1, keepdims=True, initial=-np.inf))).sum(1)


def ambiguous(reader: Reader) -> np.ndarray:
    """Return which mentions of a cache are ambiguous, (N,) bool."""
    return matches(*(reader.column(name) for name in READS)) > 1
