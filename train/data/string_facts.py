"""What strings say of a mention and an entity, whatever list it stands in: words that they share, their past in train.

Strings are compared as words: runs of letters and digits, whatever their case.
"""

import copy
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from train.data.sequences import select_rows

STRINGS = "pair.strings"  # (B, C, facts) of a batch
PRIOR = ("times", "share", "other", "of_any", "seen")
FACTS = ("exact", "first", "last", "longer", *PRIOR)
READS = ("mention.ids.surface", "mention.ids.gold", "entity.ids.name")
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
        surfaces, names = (_words(reader.strings(name)) for name in ("mention.ids.surface", "entity.ids.name"))
        codes = {words: code for code, words in enumerate(dict.fromkeys(surfaces))}
        codes.setdefault((), len(codes))  # strings without a word are like no name
        self._codes, self._words_of, self._device = codes, names, device
        self._ask([codes[words] for words in surfaces], surfaces)
        self._names = torch.tensor([codes.get(words, -1) if words else -1 for words in names], device=device)
        self._name_lengths = torch.tensor([len(words) for words in names], device=device)
        ends = [_parts(codes, [words[:n] for n in range(WORDS + 1)]) for words in names]
        self._first = torch.tensor(ends, device=device).reshape(-1)  # (E (WORDS + 2),)
        ends = [_parts(codes, [words[max(0, len(words) - n) :] for n in range(WORDS + 1)]) for words in names]
        self._last = torch.tensor(ends, device=device).reshape(-1)
        gold = torch.tensor(reader.column("mention.ids.gold")).long().to(device)
        self._entities = len(names)
        self._own = gold.masked_fill(~train.to(device), -1)  # (N,) entity, -1 = tells nothing
        told = self._own >= 0
        pairs = self._surfaces[told] * self._entities + self._own[told]
        self._pairs, self._times = torch.cat([pairs.new_full((1,), -1), pairs]).unique(return_counts=True)
        self._totals = torch.bincount(self._surfaces[told], minlength=len(codes))
        self._of_any = torch.bincount(self._own[told], minlength=self._entities)
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
        if codes:
            other._names, other._first, other._last = self._names.clone(), self._first.clone(), self._last.clone()
        for words, code in codes.items():
            self._name(other, words, code)
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

    def _name(self, other: "StringFacts", words: Words, code: int) -> None:
        """Mark there the entities that have words as their name, at its beginning and at its end."""
        count, names = len(words), self._words_of
        begin = [entity for entity in self._by_end[0].get(words[0], ()) if names[entity][:count] == words]
        end = [entity for entity in self._by_end[1].get(words[-1], ()) if names[entity][-count:] == words]
        other._names[[entity for entity in begin if len(names[entity]) == count]] = code
        if count <= WORDS:
            other._first[[entity * (WORDS + 2) + count for entity in begin]] = code
            other._last[[entity * (WORDS + 2) + count for entity in end]] = code

    @cached_property
    def _by_end(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Return the entities by the first and by the last word of their names."""
        first, last = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        for entity, words in enumerate(self._words_of):
            if words:
                first[words[0]].append(entity)
                last[words[-1]].append(entity)
        return first, last

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
        place = entities * (WORDS + 2) + lengths
        longer = (select_rows(self._name_lengths, entities) - lengths).clamp(-LONGER, LONGER) / LONGER
        itself = (own == entities).long()
        times = self._times_of(surfaces * self._entities + entities) - itself
        totals = select_rows(self._totals, surfaces) - (own >= 0).long()
        of_any = select_rows(self._of_any, entities) - itself
        found = (
            select_rows(self._names, entities) == surfaces,
            select_rows(self._first, place) == surfaces,
            select_rows(self._last, place) == surfaces,
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


def _words(texts: Sequence[str]) -> list[Words]:
    return [tuple(_WORD.findall(text.casefold())) for text in texts]


def _parts(codes: dict[Words, int], parts: Sequence[Words]) -> list[int]:
    """Return the codes of the parts of a name with 0, 1, ... words, -1 for what is no mention's; one more -1 behind."""
    known = [codes.get(part, -1) if len(part) == count else -1 for count, part in enumerate(parts)]
    return [-1, *known[1:], -1]
