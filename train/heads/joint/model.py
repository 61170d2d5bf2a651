"""Heads that map a mention and an entity into one joint space and compare them by cosine: bert, jmel, clip_linear.

Each modality has its own linear layer on each side; of several, the projections are concatenated (JMEL, Adjali et al.
2020). A missing picture is a vector of zeros there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.base import Head
from train.heads.joint.config import JointConfig
from train.layers.losses import contrastive, margin_ranking
from train.layers.products import cosine_scores

# what is projected: the columns of the mention, and those of the entity beside them
SIDES = {
    "bert": (("mention.text.span",), ("entity.text.sentence",)),
    "jmel": (("mention.text.sentence", "mention.image.vector"), ("entity.text.sentence", "entity.image.vector")),
    "clip_linear": (
        ("mention.joint.mention_sentence", "mention.joint.image"),
        ("entity.joint.text", "entity.joint.image"),
    ),
}


class Joint(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    two_towers = True

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self._mentions, self.projects = SIDES[config.head]
        widths = [config.width_of(column) for column in self.projects]
        self.mention = nn.ModuleList(nn.Linear(width, config.width) for width in widths)
        self.entity = nn.ModuleList(nn.Linear(width, config.width) for width in widths)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entities in the joint space: of columns (..., W) vectors (..., modalities * D)."""
        return torch.cat([layer(columns[name]) for layer, name in zip(self.entity, self.projects, strict=True)], -1)

    def embed(self, batch: Batch) -> Tensor:
        """Return mentions in the joint space, (B, modalities * D)."""
        return torch.cat([layer(batch[name]) for layer, name in zip(self.mention, self._mentions, strict=True)], -1)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the mention and each candidate; `projected` as in Drin.forward."""
        entities = self.project(batch.columns) if projected is None else projected
        return cosine_scores(entities, self.embed(batch)).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the margin ranking loss, or the contrastive one over a mention's candidates."""
        kind = self.config.ranking_loss
        if kind == "contrastive" or (kind == "auto" and self.config.head == "jmel"):
            return contrastive(scores, batch.gold, batch.present, self.config.temperature)
        return margin_ranking(scores, batch.gold, batch.present, self.config.margin)
