"""Losses over a mention's own candidates, and between the modalities of a batch."""

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


def triplet(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S_j - S+ + margin, 0) over the present candidates j other than gold, as above -> ().

    That is the expected triplet loss of a negative drawn from them.
    """
    position = gold.clamp(min=0)[:, None]
    others = present.scatter(1, position, False)
    count = others.sum(1)
    counted = (gold >= 0) & (count > 0)
    safe = scores.where(present, 0)
    losses = torch.relu(safe - safe.gather(1, position) + margin).where(others, 0).sum(1) / count.clamp(min=1)
    return losses.where(counted, 0).sum() / counted.sum().clamp(min=1)


def candidate_margins(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S_j - S+ + margin, 0) over each mention's present candidates j, gold included, as above.

    S+ is 0 for a mention without gold among its candidates; one without candidates adds nothing.
    """
    count = present.sum(1)
    safe = scores.where(present, 0)
    positive = safe.gather(1, gold.clamp(min=0)[:, None]).where(gold[:, None] >= 0, 0)
    losses = torch.relu(safe - positive + margin).where(present, 0).sum(1) / count.clamp(min=1)
    return losses.sum() / (count > 0).sum().clamp(min=1)


def contrastive(scores: Tensor, gold: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log softmax(scores / temperature) of gold over the present candidates, as above -> ()."""
    counted = (gold >= 0) & (present.sum(1) > 1)
    logits = (scores.where(present, -torch.inf) / temperature).where(counted[:, None], 0)
    losses = -logits.log_softmax(1).gather(1, gold.clamp(min=0)[:, None])[:, 0]
    return losses.where(counted, 0).sum() / counted.sum().clamp(min=1)


def between_modalities(first: Tensor, second: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent (Chen et al. 2020) of two vectors (B, D) of each counted (B,) mention, ().

    Of the 2n vectors at length 1, the mean of -log softmax(cosines / temperature) of each one's partner among the
    others. The others of a batch are those in one process.
    """
    vectors = torch.nn.functional.normalize(torch.cat([first, second]), dim=-1)
    there = torch.cat([counted, counted])
    itself = torch.eye(len(there), dtype=torch.bool, device=there.device)
    logits = vectors @ vectors.mT / temperature
    partner = (vectors * vectors.roll(len(counted), 0)).sum(-1) / temperature
    others = logits.masked_fill(itself | ~there, -torch.inf)
    return (others.logsumexp(1) - partner).where(there, 0).sum() / there.sum().clamp(min=1)
