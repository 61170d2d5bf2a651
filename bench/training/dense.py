"""DRIN as a literal n x n graph (Eq. 2-5, 12-15): what the head's algebra is compared with."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.heads.drin.model import Drin


class Dense(nn.Module):
    """DRIN as its equations stand, with a head's weights; Eq. 13 in the last layer too, though no score reads it."""

    def __init__(self, model: Drin) -> None:
        super().__init__()
        self.model = model
        width = model.config.width
        self.last_edges = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(self, batch: Batch) -> Tensor:
        """Return scores (B, C)."""
        return dense_scores(self.model, batch, (self.last_edges[0], self.last_edges[1]))


def dense_scores(model: Drin, batch: Batch, last_edges: tuple[Any, Any] = (None, None)) -> Tensor:
    """Return scores (B, C) with the same weights, over vertices (B, n, D) and adjacency (B, n, n), n = 2 + 2C."""
    count, candidates = batch.present.shape
    mention = torch.stack(
        [model.mention_text(batch["mention.text.span"]), model.mention_image(batch["mention.image.vector"])], 1
    )
    entity = torch.stack(
        [model.entity_text(batch["entity.text.sentence"]), model.entity_image(batch["entity.image.vector"])], 2
    )
    vertices = torch.cat([mention, entity.reshape(count, 2 * candidates, -1)], 1)
    mask = _there(batch) & model.enabled
    adjacency = _adjacency(batch["pair.alignment"].where(mask, 0))
    mask = _adjacency(mask.to(vertices.dtype))
    for layer in model.layers:
        new = functional.gelu(adjacency @ layer.vertex(vertices)) + vertices
        first, second = (layer.edge_mention, layer.edge_entity) if hasattr(layer, "edge_mention") else last_edges
        if first is not None:
            affinity = first(new) @ second(new).mT
            upper = affinity.triu()  # mention rows come first: one weight per undirected pair
            adjacency = mask * (torch.sigmoid(upper + upper.triu(1).mT) + adjacency)
        vertices = new
    scores = functional.cosine_similarity(vertices[:, :1], vertices[:, 2::2], dim=-1)
    return scores.masked_fill(~batch.present, -torch.inf)


def _there(batch: Batch) -> Tensor:
    """Return where both ends of an edge are there, (B, C, 2, 2)."""
    mention = torch.stack([torch.ones_like(batch["mention.image.present"]), batch["mention.image.present"]], 1)
    entity = torch.stack([batch.present, batch.present & batch["entity.image.present"]], 2)
    return mention[:, None, :, None] & entity[:, :, None, :]


def _adjacency(edges: Tensor) -> Tensor:
    """Return the symmetric (B, n, n) matrix of bipartite edges (B, C, 2, 2)."""
    count, candidates = edges.shape[:2]
    block = edges.permute(0, 2, 1, 3).reshape(count, 2, 2 * candidates)
    size = 2 + 2 * candidates
    full = edges.new_zeros(count, size, size)
    full[:, :2, 2:], full[:, 2:, :2] = block, block.mT
    return full
