"""Losses over candidates, a mention's own or all of a batch, and between the modalities of a batch.

A mention counts where gold is among its candidates and is not alone; the others (among them what fills up a batch) add
nothing, and of none left a loss is 0.
"""

import torch
from torch import Tensor


def counted(gold: Tensor, present: Tensor) -> Tensor:
    """Return which mentions have gold and another candidate.  gold (B,), present (B, C) -> (B,)."""
    return (gold >= 0) & (present.sum(1) > 1)


def mean(losses: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of the losses that count, (B,) and (B,) -> ()."""
    return losses.where(counts, 0).sum() / counts.sum().clamp(min=1)


def wide(vectors: Tensor) -> Tensor:
    """Return vectors in float32 at least: bfloat16 tells 0.90 from 0.904, not from 0.902."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def margin_ranking(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S- - S+ + margin, 0) (DRIN Eq. 17).  scores (B, C), gold (B,), present (B, C) -> ().

    S- is the mean over the present candidates other than gold.
    """
    safe, positive, others = _sides(scores, gold, present)
    negative = safe.where(others, 0).sum(1) / others.sum(1).clamp(min=1)
    return mean(torch.relu(negative - positive[:, 0] + margin), counted(gold, present))


def batch_margin_ranking(scores: Tensor, totals: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the same with S- the mean over the present candidates of the batch other than the mention's gold -> ().

    totals (B,) are the sums of each mention's scores with them all.
    """
    _, positive, _ = _sides(scores, gold, present)
    negative = (totals - positive[:, 0]) / (present.sum() - 1).clamp(min=1)
    return mean(torch.relu(negative - positive[:, 0] + margin), counted(gold, present))


def triplet(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S_j - S+ + margin, 0) over the present candidates j other than gold, as above -> ().

    That is the expected triplet loss of a negative drawn from them.
    """
    safe, positive, others = _sides(scores, gold, present)
    losses = torch.relu(safe - positive + margin).where(others, 0).sum(1) / others.sum(1).clamp(min=1)
    return mean(losses, counted(gold, present))


def candidate_margins(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the mean of max(S_j - S+ + margin, 0) over each mention's present candidates j, gold included, as above.

    S+ is 0 for a mention without gold among its candidates; one without candidates has loss 0.
    """
    safe, positive = _all_sides(scores, gold, present)
    count = present.sum(1)
    losses = torch.relu(safe - positive + margin).where(present, 0).sum(1) / count.clamp(min=1)
    return losses.sum() / (count > 0).sum().clamp(min=1)


def batch_candidate_margins(scores: Tensor, gold: Tensor, present: Tensor, margin: float) -> Tensor:
    """Return the same where each mention's S+ meets the present candidates of all mentions, with their own scores."""
    safe, positive = _all_sides(scores, gold, present)
    losses = torch.relu(safe.flatten() - positive + margin).where(present.flatten(), 0).sum(1)
    return mean(losses / present.sum().clamp(min=1), present.any(1))


def contrastive(scores: Tensor, gold: Tensor, present: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the mean of -log softmax(scores / temperature) of gold over the present candidates, as above -> ()."""
    counts = counted(gold, present)
    logits = (scores.where(present, 0) / temperature).where(present, -torch.inf).where(counts[:, None], 0)
    return mean(-logits.log_softmax(1).gather(1, gold.clamp(min=0)[:, None])[:, 0], counts)


def between_modalities(
    first: Tensor, second: Tensor, counts: Tensor, temperature: float, *, partners: bool = True
) -> Tensor:
    """Return NT-Xent (Chen et al. 2020) of two vectors (B, D) of each mention that counts (B,), ().

    Of the 2n vectors at length 1, the mean of -log softmax(cosines / temperature) of each one's partner among the
    others, of both modalities (pair_losses.info_nce: of the other one). The others of a batch are those in one process.
    Without `partners` the denominator is over the others but the partner; one mention then has no loss.
    """
    with torch.autocast(first.device.type, enabled=False):
        vectors = torch.nn.functional.normalize(wide(torch.cat([first, second])), dim=-1)
        logits = vectors @ vectors.mT / temperature
    there = torch.cat([counts, counts])
    left_out = torch.eye(len(there), dtype=torch.bool, device=there.device)
    if not partners:
        left_out, there = left_out | left_out.roll(len(counts), 0), there & (counts.sum() > 1)
    partner = (vectors * vectors.roll(len(counts), 0)).sum(-1) / temperature
    others = logits.masked_fill(left_out | ~there, -torch.inf)
    return mean(others.logsumexp(1) - partner, there)


def _all_sides(scores: Tensor, gold: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (B, C), 0 for padding, and gold's (B, 1), 0 where it is not among the candidates."""
    safe = scores.where(present, 0)
    return safe, safe.gather(1, gold.clamp(min=0)[:, None]).where(gold[:, None] >= 0, 0)


def _sides(scores: Tensor, gold: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores (B, C), 0 for padding, gold's (B, 1), and which candidates are others than gold (B, C)."""
    position, safe = gold.clamp(min=0)[:, None], scores.where(present, 0)
    return safe, safe.gather(1, position), present.scatter(1, position, False)
