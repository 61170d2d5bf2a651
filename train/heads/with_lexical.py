"""Any head with the first stage's string score as one more feature, which no published system takes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.base import Adjust, Head


class WithLexical(Head):
    """score = score of the head + weight * lexical score.  The weight is learned, from 0: at first it is the head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.projects, self.stackable = head.projects, head.stackable
        self.weight = nn.Parameter(torch.zeros(()))

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what the head projects of entities."""
        return self.head.project(columns)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return scores (B, C); padding is -inf."""
        return self._plus(self.head(batch, projected), batch)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the head's loss of these scores."""
        return self.head.loss(scores, batch)

    def objective(self, batch: Batch, adjust: Adjust | None = None) -> Tensor:
        """Return the head's objective with the string score in it."""
        assert adjust is None, "nothing wraps this"
        return self.head.objective(batch, lambda scores: self._plus(scores, batch))

    def _plus(self, scores: Tensor, batch: Batch) -> Tensor:
        return scores + self.weight * batch["pair.candidates.lexical"]
