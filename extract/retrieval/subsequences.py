"""Longest common subsequences of one string with many, 64 characters of it at a time in the bits of a word.

Hyyro's recurrence (2004, "Bit-parallel LCS-length computation revisited"): from S = all ones, each character c of the
other string makes S = (S + (S & M[c])) | (S - (S & M[c])), M[c] being where c stands in the query; the length is the
number of zeros.
"""

from collections.abc import Sequence

import numpy as np

WORD = 64
OWN = 224  # commonest characters that are told apart; others share the classes that are left
CLASSES = 256
CODE_POINTS = 0x110000
AT_ONCE = 1 << 13  # strings at a time: what is computed with stays in a core's cache


class Subsequences:
    """Strings in ascending order of length, prepared: a byte a character."""

    def __init__(self, texts: Sequence[str], lengths: np.ndarray, step: int) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        counts = np.zeros(CODE_POINTS, np.int64)
        for begin in range(0, len(texts), step):
            found, times = np.unique(_codes(texts[begin : begin + step]), return_counts=True)
            counts[found] += times
        self._class = (OWN + np.arange(CODE_POINTS) % (CLASSES - OWN)).astype(np.uint8)
        seen = np.flatnonzero(counts)
        common = seen[np.argsort(-counts[seen], kind="stable")[:OWN]]
        self._class[common] = np.arange(len(common))
        self._flat = np.empty(self._starts[-1], np.uint8)
        for begin in range(0, len(texts), step):
            codes = _codes(texts[begin : begin + step])
            self._flat[self._starts[begin] : self._starts[begin] + len(codes)] = self._class[codes]

    def of(self, query: str) -> np.ndarray:
        """Return where each class of characters stands in a string: bits (256,), of its first 64 characters."""
        found = np.zeros(CLASSES, np.uint64)
        classes = self._class[_codes([query[:WORD]])]
        np.bitwise_or.at(found, classes, np.uint64(1) << np.arange(len(classes), dtype=np.uint64))
        return found

    def longest(self, stands: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
        """Return how long the common subsequences are of strings at places (n,), all of one length, with 64 characters.

        int64 (n,), never too short; too long only by characters that share a class.
        """
        found = np.empty(len(places), np.int64)
        for begin in range(0, len(places), AT_ONCE):
            rows = self._starts[places[begin : begin + AT_ONCE]]
            state = np.full(len(rows), ~np.uint64(0))
            for place in range(length):
                hit = stands[self._flat[rows + place]] & state
                state = (state + hit) | (state - hit)
            found[begin : begin + AT_ONCE] = np.bitwise_count(~state)
        return found


def _codes(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
