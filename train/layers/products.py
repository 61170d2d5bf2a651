"""Readings of many vectors (B, C, D) whose gradients are cheaper by hand than by autograd.

`Dots` and `Sums` also return the vectors, for the next reader. So going back, each adds its thin product to the
gradient that comes in, where autograd would write one more (B, C, D) tensor per reader and then add it.
"""

from typing import Any

import torch
from torch import Tensor

from train.layers.losses import wide

SMALLEST_NORM = 1e-8  # as in torch.nn.functional.cosine_similarity: the cosine with a zero vector is 0


class Batched(torch.autograd.Function):
    """A function of mentions that have nothing to do with each other: more seeds are only more mentions."""

    @classmethod
    def vmap(cls, info: Any, axes: tuple[int | None, ...], *inputs: Tensor) -> tuple[tuple[Tensor, ...], int]:
        """Fold the stacked axis S into the batch: (S, B, ...) -> (S B, ...) and back."""
        size = info.batch_size
        moved = [
            x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
            for x, axis in zip(inputs, axes, strict=True)
        ]
        found = cls.apply(*(x.flatten(0, 1) for x in moved))
        return tuple(x.unflatten(0, (size, -1)) for x in found), 0

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)


class Dots(Batched):
    """Dots.apply(vectors (B, C, D), queries (B, k, D)) -> dot products (B, k, C), vectors."""

    @staticmethod
    def forward(vectors: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        return torch.bmm(queries, vectors.mT), vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, to_dots: Tensor | None, to_vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        vectors, queries = ctx.saved_tensors
        if to_dots is None:
            return to_vectors, None
        return _outer_plus(to_dots, queries, to_vectors), torch.bmm(to_dots, vectors)


class Sums(Batched):
    """Sums.apply(vectors (B, C, D), weights (B, k, C)) -> weighted sums (B, k, D), vectors."""

    @staticmethod
    def forward(vectors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.bmm(weights, vectors), vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, to_sums: Tensor | None, to_vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        vectors, weights = ctx.saved_tensors
        if to_sums is None:
            return to_vectors, None
        to_weights = torch.bmm(to_sums, vectors.mT) if ctx.needs_input_grad[1] else None
        return _outer_plus(weights, to_sums, to_vectors), to_weights


class Cosines(Batched):
    """Cosines.apply(vectors (B, C, D), query (B, D)) -> cosines (B, C), and what backward keeps."""

    @staticmethod
    def forward(vectors: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inverse = torch.linalg.vector_norm(vectors, dim=-1).clamp(min=SMALLEST_NORM).reciprocal()
        inverse_query = torch.linalg.vector_norm(query, dim=-1, keepdim=True).clamp(min=SMALLEST_NORM).reciprocal()
        dots = torch.bmm(vectors, query[..., None])[..., 0]
        return dots * inverse_query * inverse, inverse, inverse_query

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor]:
        vectors, query, cosines, inverse, inverse_query = ctx.saved_tensors
        along, away = gradient * inverse_query * inverse, gradient * cosines
        to_query = torch.bmm(along[:, None], vectors)[:, 0] - away.sum(-1, keepdim=True) * inverse_query**2 * query
        if not ctx.needs_input_grad[0]:  # vectors as they were extracted
            return None, to_query
        to_vectors = vectors * (-away * inverse * inverse)[..., None]
        return to_vectors.baddbmm_(along[..., None], query[:, None]), to_query


def cosine_scores(vectors: Tensor, query: Tensor) -> Tensor:
    """Return the cosine of each vector (B, C, D) with the query (B, D), (B, C), in float32 or wider."""
    with torch.autocast(vectors.device.type, enabled=False):
        return Cosines.apply(wide(vectors), wide(query))[0]


def _outer_plus(left: Tensor, right: Tensor, onto: Tensor | None) -> Tensor:
    """Return left^T right + onto.  (B, k, C), (B, k, D), (B, C, D) -> (B, C, D)."""
    if onto is not None:
        return torch.baddbmm(onto, left.mT, right)
    # MKL's bmm with k = 1 takes 45 MB of fresh memory a call: 14 ms instead of 0.3 (B 64, C 100, D 768)
    return left.mT * right if left.shape[1] == 1 else torch.bmm(left.mT, right)
