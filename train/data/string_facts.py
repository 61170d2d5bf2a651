"""What strings say of a mention and an entity, whatever list it stands in: the same name, and their past in train."""

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from train.data.sequences import select_rows

STRINGS = "pair.strings"  # (B, C, facts) of a batch
PRIOR = ("times", "share")
FACTS = ("exact", *PRIOR)
READS = ("mention.ids.surface", "mention.ids.gold", "entity.ids.name")


class StringFacts:
    """Strings as numbers, equal ones (but for case) as equal numbers, and what each meant in train.

    `train` (N,) says which labeled mentions are of train. What a mention of train meant itself does not count for it:
    otherwise its label would stand among its features.
    """

    def __init__(self, reader: Reader, train: Tensor, device: torch.device) -> None:
        surfaces, names = (
            [text.casefold() for text in reader.strings(name)] for name in ("mention.ids.surface", "entity.ids.name")
        )
        codes = torch.from_numpy(np.unique([*surfaces, *names], return_inverse=True)[1]).long().to(device)
        self._surfaces, self._names = codes[: len(surfaces)], codes[len(surfaces) :]
        gold = torch.tensor(reader.column("mention.ids.gold")).long().to(device)
        self._entities = len(names)
        self._own = gold.masked_fill(~train.to(device), -1)  # (N,) entity, -1 = tells nothing
        told = self._own >= 0
        pairs = self._surfaces[told] * self._entities + self._own[told]
        self._pairs, self._times = torch.cat([pairs.new_full((1,), -1), pairs]).unique(return_counts=True)
        self._totals = torch.bincount(self._surfaces[told], minlength=int(codes.max()) + 1)

    def of(self, mentions: Tensor, entities: Tensor) -> Tensor:
        """Return FACTS of mention rows (..., B) and entity rows (..., B, C): float32 (..., B, C, facts).

        exact: 1 where the strings are the same; times: log(1 + times that the string meant the entity in train);
        share: those times as a share of all that the string meant.
        """
        surfaces, own = (select_rows(column, mentions)[..., None] for column in (self._surfaces, self._own))
        asked = surfaces * self._entities + entities
        place = torch.searchsorted(self._pairs, asked).clamp(max=len(self._pairs) - 1)
        times = self._times[place].where(self._pairs[place] == asked, 0) - (own == entities).long()
        totals = select_rows(self._totals, surfaces) - (own >= 0).long()
        exact = select_rows(self._names, entities) == surfaces
        share = times / totals.clamp(min=1)
        return torch.stack([exact.float(), times.float().log1p(), share.float()], -1)
