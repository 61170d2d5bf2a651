"""Heads without weights: lexical, prior, clip.  Each returns the scores (n, C) of mention rows (n,)."""

import torch
from torch import Tensor
from torch.nn import functional

from train.table import Table

CHUNK = 1024  # mentions scored at once


def lexical(table: Table, rows: Tensor) -> Tensor:
    """Return the first stage's string score: no context, no picture, no training."""
    return table.lexical[rows.to(table.device)]


def prior(table: Table, rows: Tensor) -> Tensor:
    """Return how often each candidate was meant by the mention's string in train; strings never seen tie at 0."""
    surface, gold = table.column("mention.ids.surface"), table.column("mention.ids.gold").long()
    train = table.rows("train").to(table.device)
    train = train[gold[train] >= 0]
    entities = 1 + max(int(table.candidates.max()), int(gold.max()))
    seen, counts = (surface[train] * entities + gold[train]).unique(return_counts=True)
    there = rows.to(table.device)
    asked = surface[there][:, None] * entities + table.candidates[there].clamp(min=0).long()
    place = torch.searchsorted(seen, asked).clamp(max=len(seen) - 1)
    return counts[place].where(seen[place] == asked, 0).float()


@torch.no_grad()
def clip(table: Table, rows: Tensor) -> Tensor:
    """Return the sum of CLIP's cosines of the two texts and, where both pictures are there, of the two images."""
    found = []
    for batch in table.batches(rows.split(CHUNK)):
        texts = _cosines(batch["mention.clip.mention_sentence"], batch["entity.clip.text"])
        images = _cosines(batch["mention.clip.image"], batch["entity.clip.image"])
        found.append(texts + images)  # a missing picture is a vector of zeros, whose cosine is 0
    return torch.cat(found)


def _cosines(mention: Tensor, entities: Tensor) -> Tensor:
    return functional.cosine_similarity(mention[:, None], entities, dim=-1)


BASELINES = {"lexical": lexical, "prior": prior, "clip": clip}
