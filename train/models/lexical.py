"""Any head with the first stage's string score as one more feature, which no published system takes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.batch import Batch


class WithLexical(nn.Module):
    """score = score of the head + weight * lexical score.  The weight is learned, from 0: at first it is the head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.projects = head.projects
        self.weight = nn.Parameter(torch.zeros(()))

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what the head projects of entities."""
        return self.head.project(columns)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return scores (B, C); padding is -inf."""
        return self.head(batch, projected) + self.weight * batch["pair.candidates.lexical"]

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the head's loss of these scores."""
        return self.head.loss(scores, batch)
