"""Strings, indexed so that the best by token_set_ratio are found exactly while few are compared.

rapidfuzz's `fuzz.token_set_ratio` (its fuzz_py.py) looks at sets of tokens alone. A string's *form* is its distinct
tokens, sorted and joined by blanks. Let A and B be the lengths of two forms, s that of the tokens that both have,
joined, and the rests what each has beside them, joined. The score is 1 where tokens are shared and one rest is empty,
else the greatest of

    r = 2 (s' + lcs(rests)) / (A + B), s' = s + 1, or 0 where nothing is shared (1 - indel distance / (A + B))
    2 s / (s + A) and 2 s / (s + B), where tokens are shared

**The bound.** r <= 2 v / (A + B), where v sums over all characters the lesser of their counts in the two forms. A
common subsequence takes a character as often as the side that has fewer of it, at most. Shared tokens and the blank
after each of them, s' characters, stand in both forms beside the rests, so v(forms) = s' + v(rests) >= s' +
lcs(rests). A score of t so needs v >= t (A + B) / 2, and v <= min(A, B) bounds it by lengths alone.

**Longer n-grams** bound less: each of A - lcs deletions spoils up to q of the q-grams, each of B - lcs insertions up to
q - 1. With q = 2, forms of score t so share at least (A + B) (3 t / 2 - 1) - 1 bigrams, which says nothing
below t = 2 / 3; the hundredth of a million names stands at 0.69 in the middle, at 0.61 for a tenth of the mentions.

**Search.** What shared tokens tell of a score is known from lists of who has them. Then forms are walked by length,
nearest first, until lengths alone keep below the k-th best so far. Of each length those are looked at whose
characters reach it (`character_bits`), of these those whose longest common subsequence does, and these alone are
scored, by rapidfuzz. A string left out has a score below that of k others, or 0. SLACK is far above what rounding to
float32 moves, so no tie is left out.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz, process, utils

from extract.retrieval.character_bits import CharacterBits
from extract.retrieval.shared_tokens import SharedTokens
from extract.retrieval.subsequences import WORD, Subsequences

SLACK = 1e-6  # of scores in [0, 1], which float32 moves by 6e-8 at most
CHUNK = 1 << 16  # forms at a time: their bits, 512 kB, stay in a core's cache
FIRST, MORE = 256, 8  # of many that may be good the likeliest are scored first, then so many times more


def form(text: str) -> str:
    """Return what token_set_ratio sees of a string: its distinct tokens after default processing, sorted."""
    return " ".join(sorted(set(utils.default_process(text).split())))


def in_unit(ratios: np.ndarray) -> np.ndarray:
    """Return ratios of rapidfuzz, float64 in [0, 100], as scores in [0, 1], float32."""
    # divided in float64: float32(ratio) / 100 differs from float32(ratio / 100) in the last bit
    return (ratios / 100).astype(np.float32)


class NameIndex:
    """Forms, prepared; `owners` (n,) say whose they are, 0 to count - 1: where scores tie, the lower comes first."""

    def __init__(self, forms: Sequence[str], owners: np.ndarray, count: int) -> None:
        lengths = np.fromiter(map(len, forms), np.int32, len(forms))
        order = np.argsort(lengths, kind="stable")
        self.forms = [forms[place] for place in order.tolist()]
        self.owners, self.lengths, self.count = owners[order].astype(np.int32), lengths[order], count
        self.begins = np.flatnonzero(np.diff(self.lengths, prepend=-1, append=np.iinfo(np.int32).max))
        self.bits, self.tokens = CharacterBits(self.forms, self.lengths), SharedTokens(self.forms)
        self.subsequences = Subsequences(self.forms, self.lengths, CHUNK)

    def best(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best owners of a form, int64 (k,), each by its best one, and their scores, float32 (k,).

        k is at most count. Best score first, ties by owner; who has none scores 0.
        """
        search = _Search(self, query, k)
        search.by_tokens()
        search.by_characters()
        found = self.count - 1 - (search.keys & 0xFFFFFFFF)
        values = (search.keys >> 32).astype(np.int32).view(np.float32)
        rest = np.setdiff1d(np.arange(min(self.count, k + len(found))), found)[: k - len(found)]  # they score 0
        return np.concatenate([found, rest]), np.concatenate([values, np.zeros(len(rest), np.float32)])


class _Search:
    """The best so far of one form: `keys`, at most k, highest first.

    A key packs a score's bits, which order as the score does where it is not negative, and the owner, the lowest
    highest.
    """

    def __init__(self, index: NameIndex, query: str, k: int) -> None:
        self._index, self._query, self._k = index, query, k
        self._bits, self._stands = index.bits.of(query), index.subsequences.of(query)
        self.keys = np.empty(0, np.int64)

    def by_tokens(self) -> None:
        """Take in what shares a token."""
        index, length = self._index, len(self._query)
        places, shared, joined = index.tokens.sharing(self._query)
        if not len(places):
            return
        lengths = index.lengths[places]
        inside = (shared == self._query.count(" ") + 1) | (shared == index.tokens.numbers[places])
        known = np.where(inside, np.float32(1), np.maximum(_of_shared(joined, length), _of_shared(joined, lengths)))
        self._add(places, known)
        common = self._bits.common(places)
        better = ~inside & (2 * common > (known - SLACK) * (length + lengths))
        self._consider(places[better], common[better])

    def by_characters(self) -> None:
        """Take in all others, by lengths, the nearest first."""
        begins, own = self._index.begins, len(self._query)
        lengths = self._index.lengths[begins[:-1]].astype(np.int64)
        reach = 2 * np.minimum(lengths, own) / np.maximum(lengths + own, 1)
        for group in np.argsort(-reach, kind="stable").tolist():
            if reach[group] == 0 or reach[group] < self._needed() - SLACK:
                return
            for begin in range(begins[group], begins[group + 1], CHUNK):
                end = min(begin + CHUNK, begins[group + 1])
                self._consider(*self._bits.reaching(begin, end, self._least(lengths[group])), alike=True)

    def _needed(self) -> float:
        """Return the k-th best score so far, 0 while there are fewer."""
        return float((self.keys[-1:] >> 32).astype(np.int32).view(np.float32)[0]) if len(self.keys) == self._k else 0.0

    def _least(self, lengths: np.ndarray | int) -> np.ndarray:
        """Return how many characters must be common with forms of these lengths."""
        needed = np.ceil((self._needed() - SLACK) * (lengths + len(self._query)) / 2)
        return np.maximum(needed, 1).astype(np.int64)

    def _consider(self, places: np.ndarray, common: np.ndarray, *, alike: bool = False) -> None:
        """Take in those of places whose bound, by `common` characters (n,), reaches the k-th best, the likeliest first.

        Of forms `alike` in length that share no token the common subsequence is looked at before they are scored.
        """
        first = FIRST
        while len(places):
            lengths = self._index.lengths[places]
            there = common >= self._least(lengths)
            places, common, lengths = places[there], common[there], lengths[there]
            order = np.arange(len(places))
            if len(places) > first:
                order = np.argpartition(-2 * common / (lengths + len(self._query)), first)
            now, later = places[order[:first]], order[first:]
            self._score(now, alike)
            places, common, first = places[later], common[later], first * MORE

    def _score(self, places: np.ndarray, alike: bool) -> None:
        index = self._index
        if alike and len(places) > FIRST:
            length = int(index.lengths[places[0]])
            longest = index.subsequences.longest(self._stands, places, length) + max(0, len(self._query) - WORD)
            places = places[longest >= self._least(length)]
        if len(places):
            forms = [index.forms[place] for place in places.tolist()]
            ratios = process.cdist([self._query], forms, scorer=fuzz.token_set_ratio, dtype=np.float64, workers=1)
            self._add(places, in_unit(ratios[0]))

    def _add(self, places: np.ndarray, found: np.ndarray) -> None:
        """Merge strings with their scores; an owner stands once, with its best."""
        last = self._index.count - 1
        keys = (found.view(np.int32).astype(np.int64) << 32) | (last - self._index.owners[places])
        keys = keys[found > 0]  # who scores 0 is found without
        if len(self.keys) == self._k:
            keys = keys[keys > self.keys[-1]]
        if not len(keys):
            return
        keys = np.concatenate([self.keys, keys])
        width = 4 * self._k  # an owner may stand several times
        top = keys if len(keys) <= width else np.partition(keys, len(keys) - width)[-width:]
        best = _distinct(top)
        self.keys = (best if len(best) >= self._k or len(top) == len(keys) else _distinct(keys))[: self._k]


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Return the highest key of each owner, highest first."""
    keys = np.sort(keys)[::-1]
    _, first = np.unique(keys & 0xFFFFFFFF, return_index=True)
    return keys[np.sort(first)]


def _of_shared(joined: np.ndarray, length: np.ndarray | int) -> np.ndarray:
    """Return the ratio of shared tokens (n,) to a form's length, rounded as rapidfuzz does."""
    return in_unit(100.0 - 100.0 * (length - joined) / (joined + length))
