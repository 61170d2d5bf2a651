"""melcache's own head: a weighted sum of what is known of a mention and a candidate, under a softmax over the list.

    span, context        cos(W [span; cls], E [cls; mean]), cos(V cls, F [cls; mean]) of the texts; W, V, E, F learned
    text_text ...        CLIP's cosines of sentence and picture with the entity's text and picture, as they are
    pictures             ResNet's cosine of the two pictures
    lexical, exact       the string score, and whether mention and name are the same string
    times, share         log(1 + times that the string meant the candidate in train), and which share of its meanings

A cosine with a picture that is missing is 0; whether both, or the entity's, are there has weights of its own. Scores
are logits, so no temperature stands beside the weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.data.string_facts import FACTS as OF_STRINGS
from train.data.string_facts import PRIOR, STRINGS
from train.heads.base import Head
from train.heads.ours.config import OursConfig
from train.layers.losses import contrastive
from train.layers.products import cosine_scores

PACE = 16  # Adam moves a weight by about the learning rate a step, and these weights are logits
STARTS = {"span": 10.0, "context": 10.0, "lexical": 10.0}  # of the weights; the others start at 0
SENTENCE, PICTURE = "mention.joint.mention_sentence", "mention.joint.image"
CLIP = {
    "text_text": (SENTENCE, "entity.joint.text"),
    "text_image": (SENTENCE, "entity.joint.image"),
    "image_text": (PICTURE, "entity.joint.text"),
    "image_image": (PICTURE, "entity.joint.image"),
    "pictures": ("mention.image.vector", "entity.image.vector"),
}
KNOWN = ("span", "context", *CLIP, "entity_seen", "both_seen", "lexical", *OF_STRINGS)


class Ours(Head):
    """The head.  `model(batch)` -> scores (B, C), logits; padding is -inf."""

    projects = ("entity.text.sentence", "entity.text.mean")

    def __init__(self, config: OursConfig) -> None:
        super().__init__()
        self.known = [name for name in KNOWN if config.prior or name not in PRIOR]
        self.span = nn.Linear(2 * config.text_width, config.width)
        self.context = nn.Linear(config.text_width, config.width)
        self.entity = nn.Linear(2 * config.text_width, 2 * config.width)
        self.weight = nn.Parameter(torch.zeros(len(self.known)))
        starts = torch.tensor([STARTS.get(name, 0.0) for name in self.known])
        self.register_buffer("starts", starts, persistent=False)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entities' texts as span and context meet them, side by side, (..., 2 D)."""
        return self.entity(torch.cat([columns[name] for name in self.projects], -1))

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the weighted sum of what is known of each candidate; `projected` as in Drin.forward."""
        facts = self.facts(batch, self.project(batch.columns) if projected is None else projected)
        told = torch.stack([facts[name] for name in self.known], -1)
        return (told @ (self.starts + PACE * self.weight)).masked_fill(~batch.present, -torch.inf)

    def facts(self, batch: Batch, projected: Tensor) -> dict[str, Tensor]:
        """Return what is known of each candidate by name, (B, C) each."""
        span, cls = batch["mention.text.span"], batch["mention.text.sentence"]
        for_span, for_context = projected.chunk(2, -1)
        found = {
            "span": cosine_scores(for_span, self.span(torch.cat([span, cls], -1))),
            "context": cosine_scores(for_context, self.context(cls)),
        }
        found |= {name: cosine_scores(batch[entity], batch[mention]) for name, (mention, entity) in CLIP.items()}
        seen = batch["entity.joint.present"]
        found |= {"entity_seen": seen, "both_seen": seen & batch["mention.joint.present"][:, None]}
        found |= {"lexical": batch["pair.candidates.lexical"]}
        found |= dict(zip(OF_STRINGS, batch[STRINGS].unbind(-1), strict=True))
        return {name: values.to(found["span"].dtype) for name, values in found.items()}

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of gold over the mention's candidates."""
        return contrastive(scores, batch.gold, batch.present, 1.0)
