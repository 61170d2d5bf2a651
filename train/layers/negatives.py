"""Which candidates a loss compares gold with: the hardest of a list, and the golds of a batch's other mentions."""

import torch
from torch import Tensor
from torch.nn import functional

from train.data.batch import Batch
from train.layers.losses import wide
from train.layers.products import SMALLEST_NORM


def hardest_of(scores: Tensor, gold: Tensor, present: Tensor, count: int) -> Tensor:
    """Return gold and the `count` other present candidates that score highest, 0 = all, (B, C).

    scores (B, C), gold (B,), present (B, C). Of equal scores those that topk takes.
    """
    if not 0 < count < scores.shape[1]:
        return present
    own = torch.zeros_like(present).scatter(1, gold.clamp(min=0)[:, None], True)
    best = scores.detach().masked_fill(~present | own, -torch.inf).topk(count, 1).indices
    return present & torch.zeros_like(present).scatter(1, best, True).logical_or(own)


def narrowed(batch: Batch, scores: Tensor, count: int) -> Batch:
    """Return the batch with lists of gold and the `count` other candidates with the highest scores (B, C)."""
    gold = batch.gold.clamp(min=0)[:, None]
    order = scores.masked_fill(~batch.present, -torch.inf).scatter(1, gold, torch.inf)
    places = order.topk(count + 1, 1).indices
    columns = {
        name: column.take_along_dim(places.view(*places.shape, *[1] * (column.dim() - 2)), 1)
        if _listed(name)
        else column
        for name, column in batch.columns.items()
    }
    found = (places == gold).int().argmax(1).where(batch.gold >= 0, -1)
    return Batch(columns, batch.present.take_along_dim(places, 1), found)


def _listed(name: str) -> bool:
    return name.startswith(("entity.", "pair."))


def others_golds(candidates: Tensor, gold: Tensor, present: Tensor, counts: Tensor) -> Tensor:
    """Return whose gold j is one more negative of mention i, (B, B).

    candidates (B, C) are rows of entities, gold (B,), present (B, C), counts (B,).
    Left out are mentions that do not count, entities among the `present` candidates of i, of which its own gold is one
    (a false negative), and of several mentions of one entity all but the first.
    """
    entity = candidates.gather(1, gold.clamp(min=0)[:, None])[:, 0]
    same = (entity[:, None] == entity) & counts
    repeated = (same.tril(-1) & counts[:, None]).any(1)
    listed = ((candidates[:, :, None] == entity) & present[:, :, None]).any(1)
    return counts[:, None] & (counts & ~repeated) & ~listed


def batch_cosines(entities: Tensor, mentions: Tensor, gold: Tensor) -> Tensor:
    """Return the cosine of mention i and the gold of mention j, (B, B).

    entities (B, C, D), mentions (B, D), gold (B,).
    """
    golds = entities.take_along_dim(gold.clamp(min=0)[:, None, None], 1)[:, 0]
    with torch.autocast(entities.device.type, enabled=False):
        mentions, golds = (functional.normalize(wide(side), dim=-1, eps=SMALLEST_NORM) for side in (mentions, golds))
        return mentions @ golds.T
