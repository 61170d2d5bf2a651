"""What the heads of DWE share: a query vector against CLIP's vector of each entity's text, taken as it is."""

from collections.abc import Mapping

import torch
from torch import Tensor

from train.data.batch import Batch
from train.heads.base import Head
from train.layers.products import cosine_scores

PERSON = 1  # of COCO's categories; 0 is none


class Matching(Head):
    """A head whose score is the cosine of `embed` and the entity's text or description, which it does not project."""

    two_towers = True

    def __init__(self, entity_text: str) -> None:
        super().__init__()
        self.projects = (f"entity.joint.{entity_text}",)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the entities' vectors as they were extracted, (..., P)."""
        return columns[self.projects[0]]

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the mention and each candidate, (B, C), padding -inf; `projected` as in Drin.forward."""
        entities = self.project(batch.columns) if projected is None else projected
        return cosine_scores(entities, self.embed(batch)).masked_fill(~batch.present, -torch.inf)


def objects_of(batch: Batch, *, persons_only: bool) -> tuple[Tensor, Tensor]:
    """Return the vectors of a mention's objects, zeros where there is none, (B, K, P), and which there are, (B, K)."""
    labels = batch["mention.crops.labels"]
    wanted = labels == PERSON if persons_only else labels > 0
    there = wanted & batch["mention.joint.present"][:, None]
    return batch["mention.crops.vector"].masked_fill(~there[..., None], 0), there


def attributes_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the vectors of the faces' attributes and the scene's, (B, K + 1, P), and which there are, (B, K + 1).

    Those that are not there are stored as zeros; those of a missing picture have no object that attends to them.
    """
    vectors = torch.cat([batch["mention.attributes.faces"], batch["mention.attributes.scene"][:, None]], 1)
    return vectors, vectors.any(-1)
