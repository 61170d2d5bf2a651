"""Any head with the first stage's string score beside it, which no published system takes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.base import Head
from train.layers.losses import contrastive

PACE = (
    128  # Adam moves a weight by about the learning rate a step, and these weights are logits, of cosines 50 and more
)
START = 10.0  # of the string score, of which 0.1 more is then 2.7 times as likely


class WithLexical(Head):
    """score = a * score of the head + b * lexical score.  a and b are learned, from 0 and START: at first the matcher.

    The head learns what it learns alone, and a and b the likeliest sum, by a softmax over the list: were they learned
    by the head's objective, one with a margin would stop where either score meets it. Before the first epoch the sum
    is a candidate for selection, so that on valid no run ends below the string matcher.
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
        return self._sum(self.head(batch, projected), batch)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of gold over the mention's candidates."""
        return contrastive(scores, batch.gold, batch.present, 1.0)

    def objective(self, batch: Batch) -> Tensor:
        """Return the head's objective, and the loss of the sum with the head as it is."""
        return self.head.objective(batch) + self.loss(self._sum(self.head(batch).detach(), batch), batch)

    def _sum(self, scores: Tensor, batch: Batch) -> Tensor:
        own, string = PACE * self.weight
        total = own * scores.where(batch.present, 0) + (START + string) * batch["pair.candidates.lexical"]
        return total.masked_fill(~batch.present, -torch.inf)
