"""Comparisons of scores that are decided as float64 decides them, at the cost of float32.

A score is the dot product of two vectors on the grid (cache.edges), which is exact in float64, plus what is added. In
float32 it has an error with a bound (`error`); float64 computes only those scores that the bound leaves open.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import ConfigError

KEY = 2.0**31  # steps of a score that put entities in order; those nearer than one are ordered by row
ROUNDING = 2.0**-24  # of one operation in float32, relative
MANY = 16  # where float64 must decide on more than a sixteenth of a block, it computes the whole block


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Multiply float32 as such: with the ten bits of TF32, or in bfloat16, no bound above would hold."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Others:
    """All entities of a chunk but gold: its place (b, 1), and whether it is `outside` of the chunk (b, 1)."""

    place: Tensor
    outside: Tensor

    def of(self, scores: Tensor) -> Tensor:
        """Return scores (b, c) with gold's own as -inf, in place."""
        return scores.scatter_(1, self.place, scores.gather(1, self.place).where(self.outside, -torch.inf))

    def check(self, scores: Tensor, own: Tensor, margin: Tensor) -> None:
        """Raise ConfigError where gold's own score in float32 is farther from the exact one than float32 can be."""
        far = (scores.gather(1, self.place) - own).abs() > margin
        if (far & ~self.outside).any():
            raise ConfigError(
                "products of float32 are less exact here than float32 is, so no rank would be: unset what makes a "
                "library multiply in TF32 or bfloat16, such as NVIDIA_TF32_OVERRIDE or ONEDNN_DEFAULT_FPMATH_MODE"
            )


def compare(
    mentions: Tensor, entities: Tensor, own: Tensor, added: Tensor | None, others: Others
) -> tuple[Tensor, Tensor]:
    """Return how many of the others have more than `own` (b, 1) float64, and how many as much: (b,) int32 twice.

    mentions (b, D), entities (c, D) float32 on the grid; `added` (b, c) float32.
    """
    scores = mentions @ entities.T
    if added is not None:
        scores += added
    margin = error(mentions, entities, added)
    others.check(scores, own, margin)
    others.of(scores)
    above, reached = scores > outward(own + margin, up=True), scores >= outward(own - margin, up=False)
    better = above.sum(1, dtype=torch.int32)  # of int64 it takes 24 times as long
    unsure = int((reached.sum(1, dtype=torch.int32) - better).sum())
    if unsure * MANY > scores.numel():
        exact = others.of(all_exact(mentions, entities, added))
        return (exact > own).sum(1, dtype=torch.int32), (exact == own).sum(1, dtype=torch.int32)
    tied = torch.zeros_like(better)
    rows, columns = reached.logical_xor_(above).nonzero(as_tuple=True)
    for some in torch.arange(unsure, device=rows.device).split(max(1, scores.numel() // mentions.shape[1])):
        row, column = rows[some], columns[some]
        exact = (mentions[row].double() * entities[column].double()).sum(1)
        if added is not None:
            exact += added[row, column]
        better.index_add_(0, row, (exact > own[row, 0]).int())
        tied.index_add_(0, row, (exact == own[row, 0]).int())
    return better, tied


def all_exact(mentions: Tensor, entities: Tensor, added: Tensor | None) -> Tensor:
    """Return all scores (b, c) in float64, where sums of products are exact."""
    scores = mentions.double() @ entities.double().T
    return scores if added is None else scores.add_(added)


def error(mentions: Tensor, entities: Tensor, added: Tensor | None) -> Tensor:
    """Return how far a score in float32 may be from the one in float64, (b, 1) float64.

    A sum of D products in any order, with or without fused steps, is off by at most D u / (1 - D u) times the sum of
    their absolute values (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), which is at most |m||e|; one
    more addition by at most u times what it gives. The factor 1 + 2^-20 covers the rounding of the bound itself.
    """
    steps = mentions.shape[1] * ROUNDING
    lengths = torch.linalg.vector_norm(mentions, dim=1, keepdim=True, dtype=torch.float64)
    most = lengths * torch.linalg.vector_norm(entities, dim=1, dtype=torch.float64).amax()
    margin = most * (steps / (1 - steps))
    if added is not None:
        margin += 2 * ROUNDING * (most + added.abs().amax().double())
    return margin * (1 + 2.0**-20)


def outward(bound: Tensor, *, up: bool) -> Tensor:
    """Return a bound (...) float64 as float32, rounded away from the scores that it must not exclude."""
    near = bound.float()
    further = torch.nextafter(near, torch.full_like(near, torch.inf if up else -torch.inf))
    return further.where(near < bound if up else near > bound, near)


def highest(mentions: Tensor, entities: Tensor, k: int, least: Tensor) -> tuple[Tensor, Tensor]:
    """Return places (b, m) and exact scores (b, m) that hold all of the k highest which are not below `least` (b, 1).

    mentions (b, D), entities (c, D) float32 on the grid; scores of one step of KEY are as good as equal.
    """
    scores, margin = mentions @ entities.T, error(mentions, entities, None) + 1 / KEY
    count = reaching(scores, low := least - margin)
    if count > k:
        kth = scores.topk(min(k, len(entities))).values[:, -1:]
        count = reaching(scores, low.maximum(kth - 2 * margin))
    if count * MANY > len(entities):
        everything = torch.arange(len(entities), device=scores.device).expand_as(scores)
        return everything, all_exact(mentions, entities, None)
    places = scores.topk(count).indices
    step = max(1, scores.numel() // max(1, count * mentions.shape[1]))
    found = [
        torch.bmm(entities[of].double(), one.double()[..., None])[..., 0]
        for of, one in zip(places.split(step), mentions.split(step), strict=True)
    ]
    return places, torch.cat(found)


def reaching(scores: Tensor, low: Tensor) -> int:
    """Return how many of a mention's scores (b, c) reach its bound (b, 1) at most."""
    return int((scores >= outward(low, up=False)).sum(1, dtype=torch.int32).amax())
