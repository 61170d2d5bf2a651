"""melcache's own head: a weighted sum of what is known of a mention and a candidate, under a softmax over the list.

    text, mean        cos(m1, [cls]), cos(m2, mean) with the entity's text; [m1; m2] = (I + A) [cls; span] of a mention
    text_text ...     cosines of the joint encoder's vectors of sentence and picture with the entity's, as they are
    pictures          the image encoder's cosine of the two pictures; a cosine with a picture that is missing is 0
    entity_seen ...   whether the entity's picture, and whether both pictures, are there
    lexical ...       the string score, and what else strings say (data.string_facts)

Only A and the weights are learned. So entities' vectors stay as they were extracted, and at first the encoder's own
cosine counts. Scores are logits, so no temperature stands beside the weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.data.string_facts import FACTS, PRIOR, STRINGS
from train.heads.base import Head
from train.heads.ours.config import OursConfig
from train.layers.losses import contrastive
from train.layers.negatives import narrowed
from train.layers.products import SMALLEST_NORM

PACE = 16  # Adam moves a weight by about the learning rate a step, and these weights are logits
STARTS = {"text": 7.0, "mean": 7.0, "lexical": 10.0}  # of the weights; the others start at 0
LEXICAL = "pair.candidates.lexical"
SENTENCE, PICTURE = "mention.joint.mention_sentence", "mention.joint.image"
# by the entity's column: the names of the cosines with it, and the mention's columns
COSINES = {
    "entity.joint.text": {"text_text": SENTENCE, "image_text": PICTURE},
    "entity.joint.image": {"text_image": SENTENCE, "image_image": PICTURE},
    "entity.image.vector": {"pictures": "mention.image.vector"},
}


class Ours(Head):
    """The head.  `model(batch)` -> scores (B, C), logits; padding is -inf."""

    adds_strings = True

    def __init__(self, config: OursConfig) -> None:
        super().__init__()
        self.closest, width = config.closest, 2 * config.text_width
        there = {
            entity: {name: column for name, column in sides.items() if column not in config.absent}
            for entity, sides in COSINES.items()
            if entity not in config.absent
        }
        self.sides = {entity: sides for entity, sides in there.items() if sides}
        self.sees = "entity.joint.image" in self.sides
        self.projects = ("entity.text.sentence", "entity.text.mean", *self.sides)
        seen = ("entity_seen", "both_seen") if self.sees else ()
        self.of_vectors = ("text", "mean", *(name for sides in self.sides.values() for name in sides), *seen)
        self.of_strings = ("lexical", *(name for name in FACTS if config.prior or name not in PRIOR))
        self.change = nn.Linear(width, width)  # A
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        known = (*self.of_vectors, *self.of_strings)
        self.weight = nn.Parameter(torch.zeros(len(known)))
        starts = torch.tensor([STARTS.get(name, 0.0) for name in known])
        self.register_buffer("starts", starts, persistent=False)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entities' vectors side by side, each at length 1, of columns (..., W) to (..., sum of W)."""
        vectors = [_unit(columns[name]) for name in self.projects]
        return torch.cat([*vectors, *([_seen(columns["entity.joint.image"])] if self.sees else [])], -1)

    def embed(self, batch: Batch) -> Tensor:
        """Return what meets `project`, each side's vector times its weight / reach, (B, sum of W)."""
        weight = dict(zip(self.of_vectors, self._weights()[: len(self.of_vectors)] / self.reach(), strict=True))
        own = torch.cat([_unit(batch["mention.text.sentence"]), _unit(batch["mention.text.span"])], -1)
        sentence, span = (own + self.change(own)).chunk(2, -1)
        found = [weight["text"] * _unit(sentence), weight["mean"] * _unit(span)]
        for sides in self.sides.values():
            found.append(sum(weight[name] * _unit(batch[column]) for name, column in sides.items()))
        if self.sees:
            both = _seen(batch[PICTURE]) if PICTURE in batch.columns else torch.zeros_like(own[:, :1])
            found.append(weight["entity_seen"] + weight["both_seen"] * both)
        return torch.cat(found, -1)

    def strings(self, facts: Tensor, lexical: Tensor) -> Tensor:
        """Return what strings add to the product of both vectors.  facts (..., facts), lexical (...) -> (...)"""
        told = {"lexical": lexical} | dict(zip(FACTS, facts.unbind(-1), strict=True))
        weights = self._weights()[len(self.of_vectors) :] / self.reach()
        total = torch.zeros_like(lexical)
        for name, weight in zip(self.of_strings, weights, strict=True):  # in this order, however many pairs there are
            total = total + weight * told[name]
        return total

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the weighted sum of what is known of each candidate; `projected` as in Drin.forward."""
        vectors = self.project(batch.columns) if projected is None else projected
        cosines = torch.bmm(vectors, self.embed(batch)[..., None])[..., 0]
        scores = self.reach() * (cosines + self.strings(batch[STRINGS], batch[LEXICAL]))
        return scores.masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of gold over the mention's candidates."""
        return contrastive(scores, batch.gold, batch.present, 1.0)

    def objective(self, batch: Batch) -> Tensor:
        """Return the same over gold and the candidates that strings alone put on top, ()."""
        if 0 < self.closest < batch.present.shape[1] - 1:
            with torch.no_grad():
                scores = self.strings(batch[STRINGS], batch[LEXICAL])
            batch = narrowed(batch, scores, self.closest)
        return self.loss(self(batch), batch)

    def reach(self) -> Tensor:
        """Return the sum of the vectors' weights, so that embedded mentions are no longer than 1, ()."""
        return self._weights()[: len(self.of_vectors)].abs().sum()

    def _weights(self) -> Tensor:
        return self.starts + PACE * self.weight


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1, eps=SMALLEST_NORM)


def _seen(pictures: Tensor) -> Tensor:
    """Return whether a picture is there, (..., W) -> (..., 1): a missing one's vector is 0."""
    return (pictures != 0).any(-1, keepdim=True).to(pictures.dtype)
