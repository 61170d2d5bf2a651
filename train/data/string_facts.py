"""What strings say of a mention and an entity, whatever list it stands in: words that they share, their past in train.

Strings are compared as words: runs of letters and digits, whatever their case.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from train.data.features.sequences import select_rows

STRINGS = "pair.strings"  # (B, C, facts) of a batch
PRIOR = ("times", "share", "other", "of_any", "seen")
FACTS = ("exact", "first", "last", "longer", *PRIOR)
SURFACE, NAME = "mention.ids.surface", "entity.ids.name"
READS = (SURFACE, "mention.ids.gold", NAME)
WORDS = 6  # of a name's beginning and end
LONGER = 5  # words that count
_WORD = re.compile(r"[^\W_]+")

Words = tuple[str, ...]


class StringFacts:
    """Strings as numbers, and what each meant in train.

    `train` (N,) says which labeled mentions are of train. What a mention of train meant itself does not count for it:
    otherwise its label would stand among its features.
    """

    def __init__(self, reader: Reader, train: Tensor, device: torch.device) -> None:
        surfaces, self._entity_names = _words(reader.strings(SURFACE)), reader.strings(NAME)
        codes = {words: code for code, words in enumerate(dict.fromkeys(surfaces))}
        codes.setdefault((), len(codes))  # strings without a word are like no name
        self._codes, self._device, self._entities = codes, device, len(self._entity_names)
        self._ask([codes[words] for words in surfaces], surfaces)
        named = _named(self._entity_names, codes)
        self._names, self._name_lengths, self._first, self._last = (torch.from_numpy(of).to(device) for of in named)
        self._new = [torch.zeros(0, dtype=torch.int64, device=device)] * 3
        gold = torch.tensor(reader.column("mention.ids.gold")).long().to(device)
        self._own = gold.masked_fill(~train.to(device), -1)  # (N,) entity, -1 = tells nothing
        told = self._own >= 0
        pairs = self._surfaces[told] * self._entities + self._own[told]
        self._pairs, self._times = torch.cat([pairs.new_full((1,), -1), pairs]).unique(return_counts=True)
        self._totals = torch.bincount(self._surfaces[told], minlength=len(codes))
        self._of_any = torch.bincount(self._own[told], minlength=self._entities).int()
        lists = (np.array(reader.column(f"pair.candidates.{name}")) for name in ("candidates", "lexical"))
        self._list(*(torch.from_numpy(column).to(device) for column in lists))

    def with_mentions(self, strings: Sequence[str], rows: Tensor, listed: Tensor, scores: Tensor) -> "StringFacts":
        """Return the facts of other mentions in place of these: their strings (n,) and `rows` (n,) here, -1 = none.

        Their lists of entities (n, C), -1 = padding, and the string scores of those are on the device, as rows are.
        """
        other, surfaces = copy.copy(self), _words(strings)
        fresh = dict.fromkeys(words for words in surfaces if words not in self._codes)
        codes = {words: len(self._codes) + place for place, words in enumerate(fresh)}
        other._own = select_rows(self._own, rows.clamp(min=0)).masked_fill(rows < 0, -1)
        other._totals = torch.cat([self._totals, self._totals.new_zeros(len(codes))])
        alike = [self._alike(words, code) for words, code in codes.items()]
        if alike:
            keys = (np.sort(np.concatenate(some)) for some in zip(*alike, strict=True))
            other._new = [torch.from_numpy(some).to(self._device) for some in keys]
        other._ask([codes[words] if words in codes else self._codes[words] for words in surfaces], surfaces)
        other._list(listed, scores)
        return other

    def _ask(self, codes: Sequence[int], surfaces: Sequence[Words]) -> None:
        """Take strings of mentions as those that are asked for."""
        self._surfaces = torch.tensor(codes, device=self._device)
        self._lengths = torch.tensor([min(len(words), WORDS + 1) for words in surfaces], device=self._device)

    def _list(self, listed: Tensor, scores: Tensor) -> None:
        """Take lists and their scores."""
        self._listed, order = listed.sort(1)
        self._scores = scores.gather(1, order)
        self._lowest = scores.masked_fill(listed < 0, 1).amin(1) if listed.shape[1] else scores.new_zeros(len(listed))

    def _alike(self, words: Words, code: int) -> list[np.ndarray]:
        """Return the entities that have words as their name, at its beginning and at its end, as code * E + entity."""
        count, found = len(words), []
        for end, place in zip(self._ends, (0, -1), strict=True):
            rows = end.having(words[place]).tolist()
            found.append(
                {row: name for row in rows if _end(name := _split(self._entity_names[row]), count, place) == words}
            )
        exact = [row for row, name in found[0].items() if len(name) == count]
        ends = [[*some] if count <= WORDS else [] for some in found]
        return [code * self._entities + np.array(rows, np.int64) for rows in (exact, *ends)]

    @cached_property
    def _ends(self) -> tuple["Having", "Having"]:
        """Return which entities have a word at the beginning and at the end of their names."""
        hashes = np.zeros((2, self._entities), np.int64)
        for row, name in enumerate(self._entity_names):
            if words := _split(name):
                hashes[:, row] = hash(words[0]), hash(words[-1])
        return Having(hashes[0]), Having(hashes[1])

    def of(self, mentions: Tensor, entities: Tensor) -> Tensor:
        """Return FACTS of mention rows (..., B) and entity rows (..., B, C) or (C,): float32 (..., B, C, facts).

        exact, first, last: 1 where the mention's words are the name, and where they begin and end it; longer: how many
        words more the name has, in [-1, 1]; times: log(1 + times that the string meant the entity in train); share:
        those times as a share of all that the string meant; other: 1 where it meant others alone; of_any: log(1 + times
        that any string meant the entity); seen: 1 where one did.
        """
        surfaces, own, lengths = (
            select_rows(column, mentions)[..., None] for column in (self._surfaces, self._own, self._lengths)
        )
        place, asked = entities * (WORDS + 2) + lengths, surfaces * self._entities + entities
        longer = (select_rows(self._name_lengths, entities) - lengths).clamp(-LONGER, LONGER) / LONGER
        itself = (own == entities).long()
        times = self._times_of(asked) - itself
        totals = select_rows(self._totals, surfaces) - (own >= 0).long()
        of_any = select_rows(self._of_any, entities) - itself
        found = (
            (select_rows(self._names, entities) == surfaces) | _among(self._new[0], asked),
            (select_rows(self._first, place) == surfaces) | _among(self._new[1], asked),
            (select_rows(self._last, place) == surfaces) | _among(self._new[2], asked),
            longer,
            times.float().log1p(),
            times / totals.clamp(min=1),
            (times == 0) & (totals > 0),
            of_any.float().log1p(),
            of_any > 0,
        )
        return torch.stack([fact.float() for fact in found], -1)

    def lexical(self, mentions: Tensor, entities: Tensor) -> Tensor:
        """Return the string score of mention rows (..., B) and entity rows (..., B, C) or (C,): float32 (..., B, C).

        An entity that is not in the mention's list of the cache has the lowest score of that: a list holds the best.
        """
        listed, scores = select_rows(self._listed, mentions), select_rows(self._scores, mentions)
        asked = entities.expand(*mentions.shape, entities.shape[-1]).to(listed.dtype).contiguous()
        place = torch.searchsorted(listed, asked).clamp(max=listed.shape[-1] - 1)
        there = listed.gather(-1, place) == asked
        return scores.gather(-1, place).where(there, select_rows(self._lowest, mentions)[..., None])

    def _times_of(self, asked: Tensor) -> Tensor:
        place = torch.searchsorted(self._pairs, asked).clamp(max=len(self._pairs) - 1)
        return self._times[place].where(self._pairs[place] == asked, 0)


class Having:
    """Which rows have a word, by its hash; those that have none are none's."""

    def __init__(self, hashes: np.ndarray) -> None:
        self._rows = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._rows]

    def having(self, word: str) -> np.ndarray:
        """Return the rows of those that have this word, ascending, and of some that have another one."""
        first, last = (int(np.searchsorted(self._hashes, hash(word), side)) for side in ("left", "right"))
        return self._rows[first:last]


def _named(names: Sequence[str], codes: Mapping[Words, int]) -> tuple[np.ndarray, ...]:
    """Return of each name its code, how many words it has, and the codes of its first and of its last words.

    int32 (E,) and (E,), int32 (E (WORDS + 2),) twice: of 0, 1, ... words, and one more; -1 for what is no mention's.
    """
    known, lengths = np.full(len(names), -1, np.int32), np.zeros(len(names), np.int32)
    ends = np.full((2, len(names), WORDS + 2), -1, np.int32)
    at = [{words[place] for words in codes if words} for place in (0, -1)]
    for row, name in enumerate(names):
        words = _split(name)
        lengths[row] = len(words)
        for end, place in enumerate((0, -1)):
            if words and words[place] in at[end]:
                some = range(1, min(len(words), WORDS) + 1)
                ends[end, row, 1 : len(some) + 1] = [codes.get(_end(words, n, place), -1) for n in some]
                known[row] = codes.get(words, -1)
    return known, lengths, *ends.reshape(2, -1)


def _among(keys: Tensor, asked: Tensor) -> Tensor:
    """Return which numbers (...) are among ascending ones (n,)."""
    if not len(keys):
        return torch.zeros_like(asked, dtype=torch.bool)
    return keys[torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)] == asked


def _words(texts: Iterable[str]) -> list[Words]:
    return list(map(_split, texts))


def _split(text: str) -> Words:
    return tuple(_WORD.findall(text.casefold()))


def _end(words: Words, count: int, place: int) -> Words:
    """Return the first words, or with place -1 the last ones."""
    return words[:count] if place == 0 else words[max(0, len(words) - count) :]
