"""DRIN as a literal n x n graph (Eq. 12, 13): what the bipartite head is compared with."""

import torch
from torch import Tensor
from torch.nn import functional

from train.batch import Batch
from train.models.drin import Drin


def dense_scores(model: Drin, batch: Batch) -> Tensor:
    """Return scores (B, C) with the same weights, over vertices (B, n, D) and adjacency (B, n, n), n = 2 + 2C."""
    mention, entity = model._vertices(batch)
    count, candidates = batch.present.shape
    vertices = torch.cat([mention, entity.reshape(count, 2 * candidates, -1)], 1)
    mask = _adjacency(model._mask(batch).to(vertices.dtype))
    adjacency = _adjacency(batch.edges.where(model._mask(batch), 0))
    for layer in model.layers:
        new = functional.gelu(adjacency @ layer.vertex(vertices)) + vertices
        if hasattr(layer, "edge_mention"):
            affinity = layer.edge_mention(new) @ layer.edge_entity(new).mT
            upper = affinity.triu()  # mention rows come first: one weight per undirected pair
            adjacency = mask * (torch.sigmoid(upper + upper.triu(1).mT) + adjacency)
        vertices = new
    scores = functional.cosine_similarity(vertices[:, :1], vertices[:, 2::2], dim=-1)
    return scores.masked_fill(~batch.present, -torch.inf)


def _adjacency(edges: Tensor) -> Tensor:
    """Return the symmetric (B, n, n) matrix of bipartite edges (B, C, 2, 2)."""
    count, candidates = edges.shape[:2]
    block = edges.permute(0, 2, 1, 3).reshape(count, 2, 2 * candidates)
    size = 2 + 2 * candidates
    full = edges.new_zeros(count, size, size)
    full[:, :2, 2:], full[:, 2:, :2] = block, block.mT
    return full
