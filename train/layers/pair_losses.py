"""Losses over pairs: gold against one other candidate, and the pictures of a batch against its sentences.

Which mentions count, `losses.counted` says. Under bfloat16 all is computed in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from train.data.batch import Batch
from train.layers.losses import mean, wide

TIES = 1e-5  # many names share a string score: a random one of them is taken. Different scores differ by more


def pick(values: Tensor, gold: Tensor, present: Tensor) -> Tensor:
    """Return where the largest value of the present candidates other than gold stands.  values (B, C) -> (B,)."""
    others = present.scatter(1, gold.clamp(min=0)[:, None], False)
    return values.masked_fill(~others, -torch.inf).argmax(1)


def likest(batch: Batch, share: float) -> Tensor:
    """Return where each mention's drawn negative stands, (B,): for a `share` of them the likest name, else any."""
    chance = torch.rand_like(batch["pair.candidates.lexical"])
    hard = torch.rand_like(chance[:, :1]) < share
    values = torch.where(hard, batch["pair.candidates.lexical"] + TIES * chance, chance)
    return pick(values, batch.gold, batch.present)


def against(values: Tensor, gold: Tensor, other: Tensor) -> Tensor:
    """Return gold's values and the other's.  values (B, C, ...), gold and other (B,) -> (B, 2, ...)."""
    where = torch.stack([gold.clamp(min=0), other], 1)
    return values.take_along_dim(where.view(*where.shape, *[1] * (values.dim() - 2)), 1)


def pair_triplet(scores: Tensor, counts: Tensor, margin: float) -> Tensor:
    """Return the mean of max(s_other - s_gold + margin, 0).  scores (B, 2) as of `against`, counts (B,) -> ()."""
    return mean(torch.relu(scores[:, 1] - scores[:, 0] + margin), counts)


def across(query: Tensor, ends: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    """Return a_i . (n_j - p_i) of each mention i with the other n_j of every mention j that counts, else -inf: (B, B).

    query (B, D) a, ends (B, 2, D) p and n as of `against`; own (B,) stands where i = j.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, gold, other = wide(query), *wide(ends).unbind(1)
        found = query @ other.mT - (query * gold).sum(1, keepdim=True)
    itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
    return torch.where(itself, own, found).masked_fill(~counts, -torch.inf)


def n_pair(differences: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of log(1 + sum_j exp(d_j)) (N-pair loss, Sohn 2016, Eq. 5).

    differences (B, J), how much more each other scores than gold; counts (B,) -> ().
    """
    gold = torch.zeros_like(differences[:, :1])
    return mean(torch.cat([gold, differences], 1).logsumexp(1), counts)


def squares(vectors: Tensor, counts: Tensor) -> Tensor:
    """Return the mean squared norm.  vectors (B, D), counts (B,) -> ()."""
    return mean(wide(vectors).square().sum(1), counts)


def info_nce(left: Tensor, right: Tensor, counts: Tensor, scale: Tensor | float) -> Tensor:
    """Return the symmetric InfoNCE of pairs within a batch: the mean of both directions' cross entropies.

    Logits are cosines times `scale` (CLIP, Radford et al. 2021, Figure 3).  left and right (B, D), counts (B,) -> ().
    """
    with torch.autocast(left.device.type, enabled=False):
        left, right = (functional.normalize(wide(side), dim=-1) for side in (left, right))
        logits = scale * (left @ right.T)
    # finite, so that a batch in which nothing counts has no NaN
    logits = logits.masked_fill(~(counts[:, None] & counts), torch.finfo(logits.dtype).min)
    found = logits.log_softmax(0).diagonal() + logits.log_softmax(1).diagonal()
    return mean(-found / 2, counts)
