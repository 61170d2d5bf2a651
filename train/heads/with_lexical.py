"""Any head with the first stage's string score as one more feature, which no published system takes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.base import Adjust, Head

PACE = 16  # Adam moves a weight by about the learning rate a step, and this one has to come from 0 to 1


class WithLexical(Head):
    """score = a * score of the head + b * lexical score.  Both are learned, from 0 and 1: at first it is the matcher.

    Before the first epoch it is a candidate for selection, so that on valid no run ends below the string matcher.
    """

    starts_as_it_is = True

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.projects, self.stackable = head.projects, head.stackable
        self.weight = nn.Parameter(torch.zeros(2))  # of both scores, in PACE from where they start

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what the head projects of entities."""
        return self.head.project(columns)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return scores (B, C); padding is -inf."""
        return self._plus(self.head(batch, projected), batch).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the head's loss of these scores."""
        return self.head.loss(scores, batch)

    def objective(self, batch: Batch, adjust: Adjust | None = None) -> Tensor:
        """Return the head's objective with the string score in it."""
        assert adjust is None, "nothing wraps this"
        return self.head.objective(batch, lambda scores: self._plus(scores, batch))

    def _plus(self, scores: Tensor, batch: Batch) -> Tensor:
        own, string = PACE * self.weight
        return own * scores.where(batch.present, 0) + (1 + string) * batch["pair.candidates.lexical"]
