"""DRIN: a dynamic graph convolution over one mention and its candidates (DRIN Eq. 2-5, 12-15, 17).

Vertices: mention text and image; text and image of each candidate. The graph is bipartite, so there is no n x n
matrix: edges are (B, C, 2, 2), and each weight matrix meets the two mention vectors or what they aggregated, never
the C candidates: (W_1 h_m) . (W_2 h_e) = (W_2^T W_1 h_m) . h_e.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.schema import EDGES
from train.batch import Batch
from train.config import DrinConfig
from train.losses import margin_ranking

ACTIVATIONS = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


class Layer(nn.Module):
    """One convolution: `vertex` is W_h, `edge_mention` W_1, `edge_entity` W_2.

    The last layer has no edge update, because nothing would read it; tied weights have no `edge_entity`.
    """

    def __init__(self, config: DrinConfig, last: bool) -> None:
        super().__init__()
        self.vertex = nn.Linear(config.width, config.width, bias=False)
        if not last:
            self.edge_mention = nn.Linear(config.width, config.width, bias=False)
            if not config.tied:
                self.edge_entity = nn.Linear(config.width, config.width, bias=False)


class Drin(nn.Module):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    def __init__(self, config: DrinConfig) -> None:
        super().__init__()
        self.config = config
        self.mention_text = nn.Linear(config.text_width, config.width, bias=False)
        self.mention_image = nn.Linear(config.image_width, config.width, bias=False)
        self.entity_text = nn.Linear(config.text_width, config.width, bias=False)
        self.entity_image = nn.Linear(config.image_width, config.width, bias=False)
        self.layers = nn.ModuleList(Layer(config, last=i == config.layers - 1) for i in range(config.layers))
        enabled = torch.tensor([edge in config.edges for edge in EDGES]).reshape(2, 2)
        self.register_buffer("enabled", enabled, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the cosine of the final text vertices of the mention and each candidate (Eq. 14)."""
        mask = self._mask(batch)  # M of Eq. 13
        edges = torch.where(mask, batch.edges, 0).to(self.mention_text.weight.dtype)
        mention, entity = self._vertices(batch)
        for layer in self.layers[:-1]:
            new = self._convolve(layer, mention, entity, edges)
            edges = self._update(layer, *(new if self.config.edge_from == "next" else (mention, entity)), edges, mask)
            mention, entity = new
        scores = self._match(self.layers[-1], mention, entity, edges)
        return scores.masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the margin ranking loss (Eq. 17)."""
        return margin_ranking(scores, batch.gold, batch.present, self.config.margin)

    def _mask(self, batch: Batch) -> Tensor:
        there = torch.stack([torch.ones_like(batch.mention_image_present), batch.mention_image_present], 1)
        entity = torch.stack([batch.present, batch.present & batch.entity_image_present], 2)
        return there[:, None, :, None] & entity[:, :, None, :] & self.enabled

    def _vertices(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mention (B, 2, D) and entity (B, C, 2, D) vertices; what is not present enters as 0 (Eq. 2-5)."""
        entity_there = batch.present & batch.entity_image_present
        mention_image = batch.mention_image.where(batch.mention_image_present[:, None], 0)
        entity_text = batch.entity_text.where(batch.present[..., None], 0)
        entity_image = batch.entity_image.where(entity_there[..., None], 0)
        mention = torch.stack([self.mention_text(batch.mention_text), self.mention_image(mention_image)], 1)
        return mention, torch.stack([self.entity_text(entity_text), self.entity_image(entity_image)], 2)

    def _convolve(self, layer: Layer, mention: Tensor, entity: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next vertices (Eq. 12)."""
        activate = ACTIVATIONS[self.config.vertex_activation]
        gathered = layer.vertex(torch.einsum("bcme,bced->bmd", edges, entity))
        scattered = torch.einsum("bcme,bmd->bced", edges, layer.vertex(mention))
        return activate(gathered) + mention, activate(scattered) + entity

    def _update(self, layer: Layer, mention: Tensor, entity: Tensor, edges: Tensor, mask: Tensor) -> Tensor:
        """Return the next edges (Eq. 13)."""
        activate = ACTIVATIONS[self.config.edge_activation]
        second = layer.edge_mention if self.config.tied else layer.edge_entity
        query = layer.edge_mention(mention) @ second.weight
        affinity = torch.einsum("bmd,bced->bcme", query, entity)
        updated = activate(affinity) + edges if self.config.edge_residual == "outside" else activate(affinity + edges)
        return updated.where(mask, 0)

    def _match(self, layer: Layer, mention: Tensor, entity: Tensor, edges: Tensor) -> Tensor:
        """Return the scores; of the last layer only the text vertices are computed (Eq. 12, 14)."""
        activate = ACTIVATIONS[self.config.vertex_activation]
        gathered = layer.vertex(torch.einsum("bce,bced->bd", edges[:, :, 0], entity))
        scattered = torch.einsum("bcm,bmd->bcd", edges[..., 0], layer.vertex(mention))
        mention_text = activate(gathered) + mention[:, 0]
        entity_text = activate(scattered) + entity[:, :, 0]
        return functional.cosine_similarity(mention_text[:, None], entity_text, dim=-1)
