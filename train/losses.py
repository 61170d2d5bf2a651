"""Losses over a mention's own candidates."""

import torch
from torch import Tensor


def margin_ranking(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S- - S+ + margin, 0) (DRIN Eq. 17).  scores (B, C), gold (B,), present (B, C) -> ().

    S- is the mean over the present candidates other than gold. Mentions without gold among their candidates, or
    with no other candidate, add nothing; with none left the loss is 0.
    """
    position = gold.clamp(min=0)[:, None]
    others = present.scatter(1, position, False)
    count = others.sum(1)
    counted = (gold >= 0) & (count > 0)
    safe = scores.where(present, 0)
    positive = safe.gather(1, position)[:, 0]
    negative = safe.where(others, 0).sum(1) / count.clamp(min=1)
    losses = torch.relu(negative - positive + margin).where(counted, 0)
    return losses.sum() / counted.sum().clamp(min=1)


def contrastive(scores: Tensor, gold: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log softmax(scores / temperature) of gold over the present candidates, as above -> ()."""
    counted = (gold >= 0) & (present.sum(1) > 1)
    logits = (scores.where(present, -torch.inf) / temperature).where(counted[:, None], 0)
    losses = -logits.log_softmax(1).gather(1, gold.clamp(min=0)[:, None])[:, 0]
    return losses.where(counted, 0).sum() / counted.sum().clamp(min=1)
