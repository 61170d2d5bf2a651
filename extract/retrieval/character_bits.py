"""How many characters two strings have in common, bounded from above by a few bits of each.

The t-th occurrence of a character in a string is a pair (character, t), and the characters that two strings have in
common, each as often as in the string that has fewer, are as many as the pairs that both have. The 64 commonest pairs
have a bit of their own in a string's first word of 64, all others share the bits of the second. Where `held[j]` pairs
of a query fall on bit j, the other string can have all of them in common if its bit j is set, and none if it is not:
the common pairs are at most popcount(query & other) + the sum of held[j] - 1 over the query's bits. One `and` and one
count of 8 bytes a string.
"""

from collections.abc import Sequence

import numpy as np

SAMPLE = 100_000  # strings that tell which pairs are common
CHARACTERS = 1 << 21  # at a time; also more than there are code points
OCCURRENCES = 1 << 16  # later ones count as this one
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the highest bits of a product are the hash
WORD = 64


class CharacterBits:
    """The two words of each string, prepared to be compared with many."""

    def __init__(self, texts: Sequence[str], lengths: np.ndarray) -> None:
        _, pairs = _pairs(texts[:: max(1, len(texts) // SAMPLE)])
        found, counts = np.unique(pairs, return_counts=True)
        self._own = np.sort(found[np.argsort(-counts, kind="stable")[:WORD]])
        self._words = np.zeros((2, len(texts)), np.uint64)
        ends = np.cumsum(lengths, dtype=np.int64)
        begin = 0
        while begin < len(texts):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + CHARACTERS, "right")))
            self._fill(texts, begin, end)
            begin = end

    def _fill(self, texts: Sequence[str], begin: int, end: int) -> None:
        rows, pairs = _pairs(texts[begin:end])
        if len(rows):
            word, bit = self._bits(pairs)
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            for which in (0, 1):
                found = np.where(word == which, np.uint64(1) << bit, np.uint64(0))
                self._words[which, begin + rows[starts]] = np.bitwise_or.reduceat(found, starts)

    def _bits(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return in which word and on which bit of it pairs fall."""
        place = np.minimum(np.searchsorted(self._own, pairs), max(0, len(self._own) - 1))
        own = self._own[place] == pairs if len(self._own) else np.zeros(len(pairs), bool)
        return np.where(own, 0, 1), np.where(own, place.astype(np.uint64), pairs.astype(np.uint64) * SPREAD >> 58)

    def of(self, query: str) -> "Asked":
        """Return the comparison of a string with all."""
        word, bit = self._bits(_pairs([query])[1])
        held = np.zeros((2, WORD), np.int64)
        np.add.at(held, (word, bit.astype(np.int64)), 1)
        return Asked(self._words, held)


class Asked:
    """One string, compared with those of CharacterBits; `held` (2, 64) says how many of its pairs fall on each bit."""

    def __init__(self, words: np.ndarray, held: np.ndarray) -> None:
        self._slack = int(np.maximum(held - 1, 0).sum())
        first = 0 if np.count_nonzero(held[0]) >= np.count_nonzero(held[1]) else 1
        masks = [np.uint64(sum(1 << bit for bit in np.flatnonzero(row).tolist())) for row in held]
        self._first, self._second = (words[first], masks[first]), (words[1 - first], masks[1 - first])
        self._unseen = np.count_nonzero(held[1 - first])  # by the first word

    def common(self, places: np.ndarray) -> np.ndarray:
        """Return how many characters the strings at places (n,) have in common with this one at most: int64 (n,)."""
        seen = [np.bitwise_count(words[places] & mask).astype(np.int64) for words, mask in (self._first, self._second)]
        return seen[0] + seen[1] + self._slack

    def reaching(self, begin: int, end: int, least: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which places from begin to end may have `least` characters in common, and how many: (n,) twice."""
        words, mask = self._first
        seen = np.bitwise_count(words[begin:end] & mask)
        places = begin + np.flatnonzero(seen >= int(least) - self._slack - self._unseen)
        common = self.common(places)
        there = common >= least
        return places[there], common[there]


def _pairs(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of strings and in which each stands, ascending: rows and pairs, int64 (n,) twice."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    rows = np.repeat(np.arange(len(texts)), np.fromiter(map(len, texts), np.int64, len(texts)))
    keys = np.sort(rows * CHARACTERS + codes)
    places = np.arange(len(keys))
    first = np.maximum.accumulate(np.where(np.diff(keys, prepend=-1) != 0, places, 0))
    nth = np.minimum(places - first, OCCURRENCES - 1)
    return keys // CHARACTERS, keys % CHARACTERS * OCCURRENCES + nth
