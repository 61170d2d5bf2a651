"""Exact ranks and what follows from them: Top-k, MRR, mean rank, under three rules for ties."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import NotFiniteError
from train.config import KS

TieRule = Literal["optimistic", "expected", "pessimistic"]
NEVER = 1 << 40  # rank of a gold that was not retrieved: above every k


def ranks(scores: Tensor, gold: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many candidates stand above gold and how many tie with it.  (B, C), (B,), (B, C) -> (B,), (B,).

    A mention whose gold is not among its candidates has better = NEVER and tied = 0.
    Raises NotFiniteError for a present candidate with a NaN or infinite score: published code counts NaN as a hit.
    """
    bad = ~torch.isfinite(scores) & present
    if bad.any():
        row, column = (int(i) for i in bad.nonzero()[0])
        raise NotFiniteError(f"the score of candidate {column} of mention {row} is {scores[row, column].item()}")
    own = scores.gather(1, gold.clamp(min=0)[:, None])
    better = ((scores > own) & present).sum(1)
    tied = ((scores == own) & present).sum(1) - 1
    there = gold >= 0
    return better.where(there, NEVER), tied.where(there, 0)


def top_k_hits(better: Tensor, tied: Tensor, k: int, rule: TieRule = "expected") -> Tensor:
    """Return the top-k hit of each mention.  better (B,), tied (B,) -> float64 (B,) in [0, 1].

    expected: the `tied` others share gold's score in random order, so a constant model scores chance.
    """
    if rule == "optimistic":
        return (better < k).double()
    if rule == "pessimistic":
        return (better + tied < k).double()
    return ((k - better).double() / (tied + 1)).clamp(0, 1)


def per_mention(better: Tensor, tied: Tensor, metric: str) -> Tensor:
    """Return a metric, top<k> or mrr, of each mention, ties in expectation.  (B,), (B,) -> float64 (B,) in [0, 1]."""
    if metric != "mrr":
        return top_k_hits(better, tied, int(metric.removeprefix("top")))
    there = better < NEVER
    found = torch.zeros(len(better), dtype=torch.float64)
    found[there] = _mean_reciprocal((better + 1)[there], (better + tied + 1)[there])
    return found


def summarize(
    better: Tensor, tied: Tensor, rule: TieRule = "expected", ambiguous: Tensor | None = None
) -> dict[str, float]:
    """Return the metrics of a split as fractions of all its mentions.

    top<k>, mrr (a gold that was not retrieved counts 0), recall (the ceiling of every top-k), top1_of_retrieved
    (Top-1 divided by recall, as DRIN reports it) and mean_rank over the mentions whose gold was retrieved. With
    `ambiguous` (B,) how many of the mentions are, and their Top-1 and recall; of none 0.
    """
    count = max(1, len(better))
    there = better < NEVER
    first, last = (better + 1)[there], (better + tied + 1)[there]
    if rule == "optimistic":
        last = first
    elif rule == "pessimistic":
        first = last
    recall = float(there.sum()) / count
    result = {f"top{k}": float(top_k_hits(better, tied, k, rule).sum()) / count for k in KS}
    result["mrr"] = float(_mean_reciprocal(first, last).sum()) / count
    result["mean_rank"] = float((first + last).double().mean() / 2) if len(first) else 0.0
    result["recall"] = recall
    result["top1_of_retrieved"] = result["top1"] / recall if recall else 0.0
    result["mentions"] = float(len(better))
    if ambiguous is not None:
        own = summarize(better[ambiguous], tied[ambiguous], rule)
        result |= {"ambiguous": own["mentions"], "top1_of_ambiguous": own["top1"], "recall_of_ambiguous": own["recall"]}
    return result


def _mean_reciprocal(first: Tensor, last: Tensor) -> Tensor:
    """Return the mean of 1/r over the ranks first..last, both included."""
    highest = int(last.max()) if len(last) else 0
    steps = torch.arange(highest + 1, dtype=torch.float64).clamp(min=1).reciprocal()
    steps[0] = 0
    harmonic = steps.cumsum(0).to(last.device)
    return (harmonic[last] - harmonic[first - 1]) / (last - first + 1)
