"""Which strings share tokens with another: for each token the list of strings that have it."""

from collections.abc import Sequence

import numpy as np


class SharedTokens:
    """Strings of distinct tokens between blanks; `numbers` (n,) says how many tokens each has."""

    def __init__(self, forms: Sequence[str]) -> None:
        self._ids: dict[str, int] = {}
        self.numbers = np.fromiter((text.count(" ") + 1 if text else 0 for text in forms), np.int32, len(forms))
        ids = self._ids
        tokens = (ids.setdefault(token, len(ids)) for text in forms for token in text.split())
        found = np.fromiter(tokens, np.int32, int(self.numbers.sum()))
        rows = np.repeat(np.arange(len(forms), dtype=np.int32), self.numbers)
        self._rows = rows[np.argsort(found, kind="stable")]
        self._ends = np.cumsum(np.bincount(found, minlength=len(ids)))

    def sharing(self, query: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of strings that share tokens with one, how many, and how long these are joined: (n,) each."""
        tokens = [token for token in query.split() if token in self._ids]
        lists = [self._having(self._ids[token]) for token in tokens]
        if not lists:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        rows = np.concatenate(lists)
        lengths = np.repeat([len(token) + 1 for token in tokens], [len(found) for found in lists])
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        counts = np.diff(starts, append=len(rows))
        return rows[starts].astype(np.int64), counts, np.add.reduceat(lengths[order], starts) - 1

    def _having(self, token: int) -> np.ndarray:
        return self._rows[self._ends[token - 1] if token else 0 : self._ends[token]]
