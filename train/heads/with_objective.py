"""Any head under another objective than its own: Eq. 17, or a softmax over its list, or over the batch's golds too.

The objective stands for all that the head's paper minimizes, losses beside the ranking included; the scores stay the
head's. So two heads under one objective differ in their architecture alone.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.errors import UntrainableError
from train.data.batch import CANDIDATES, Batch
from train.heads.base import Head
from train.layers.losses import contrastive, counted, margin_ranking
from train.layers.negatives import batch_cosines, hardest_of, others_golds
from train.layers.products import cosine_scores

MARGIN = 0.25  # DRIN 4.4, where the head has none of its own
TEMPERATURE, LOWEST = 0.07, 0.01  # as CLIP begins, and its bound


class WithObjective(Head):
    """The head's scores; `objective` is "margin", "listwise" or "in-batch", over the `hardest` negatives, 0 = all.

    The temperature of the latter two is learned.  Raises UntrainableError for in-batch where the head's score is no
    cosine of two towers: of other mentions' entities a batch holds no edge.
    """

    def __init__(self, head: Head, name: str, objective: str, hardest: int, margin: float) -> None:
        super().__init__()
        self.head, self._objective, self._hardest, self._margin = head, objective, hardest, margin
        self.projects, self.stackable = head.projects, head.stackable
        self.two_towers, self.adds_strings = head.two_towers, head.adds_strings
        if objective == "in-batch" and not head.two_towers:
            raise UntrainableError(
                f"--objective in-batch compares mentions with entities outside their lists, and {name} scores lists "
                "alone: choose listwise"
            )
        if objective != "margin":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what the head projects of entities."""
        return self.head.project(columns)

    def embed(self, batch: Batch) -> Tensor:
        """Return the head's mention vectors."""
        return self.head.embed(batch)

    def strings(self, facts: Tensor, lexical: Tensor) -> Tensor:
        """Return what the head adds for strings."""
        return self.head.strings(facts, lexical)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the head's scores (B, C); padding is -inf."""
        return self.head(batch, projected)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the loss of scores (B, C) over the mentions' own candidates, ()."""
        present = hardest_of(scores, batch.gold, batch.present, self._hardest)
        if self._objective == "margin":
            return margin_ranking(scores, batch.gold, present, self._margin)
        return contrastive(scores, batch.gold, present, self._temperature())

    def objective(self, batch: Batch) -> Tensor:
        """Return what is minimized, ().  Of golds of other mentions each counts once, and no mention's own gold."""
        if self._objective != "in-batch":
            return self.loss(self.head(batch), batch)
        mentions, entities = self.head.embed(batch), self.head.project(batch.columns)
        scores = cosine_scores(entities, mentions).masked_fill(~batch.present, -torch.inf)
        present = hardest_of(scores, batch.gold, batch.present, self._hardest)
        counts = counted(batch.gold, batch.present)
        others = others_golds(batch[CANDIDATES], batch.gold, present, counts)
        across = batch_cosines(entities, mentions, batch.gold).masked_fill(~others, -torch.inf)
        every = torch.cat([scores, across], 1), batch.gold, torch.cat([present, others], 1)
        return contrastive(*every, self._temperature())

    def _temperature(self) -> Tensor:
        return (-self.log_scale).exp().clamp(min=LOWEST)
