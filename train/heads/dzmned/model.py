"""DZMNED (Moon et al. 2018): attention over the modalities of a mention, and a match of its characters.

    w = Linear(span)    c = Linear(k)    v = Linear(image)
    k = max over the string's trigrams of x_-1 + y_0 + z_1, three learned vectors for every character
    a = softmax(sigmoid(Linear([w; c; v]))); the v of a missing picture is 0, which turns no sum
    combined match = cos(a_w w + a_c c + a_v v, Linear(entity text))
    character match = cos(k, k of the entity's name)
    score = mean of both matches; loss = margin ranking of each, added

Where this departs from the paper, and why.  The word vector is BERT's span mean, not the state of an LSTM over the
words around: BERT has read them.  Characters are bytes of UTF-8: any script has them, and no vocabulary lacks one.
They are read by a convolution (Ma and Hovy 2016), where the paper has a bidirectional LSTM, which would take its steps
one after the other for 6,400 names a batch.  Those names are read like the mentions' strings and learned with the rest,
where the paper takes vectors trained beforehand to tell edit distances.  For its knowledge graph embeddings stands the
entity's text, as in DRIN's comparison.  The string score in `pair.candidates.lexical` would be a character match for
free, but it is no vector to attend to, and so strong on some datasets that it would hide what the head does;
--with-lexical adds it to any head.

The mean of two cosines is the cosine of two unit vectors laid end to end: mention and entity are two towers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.heads.base import Head
from train.heads.dzmned.config import DzmnedConfig
from train.layers.losses import margin_ranking
from train.layers.products import SMALLEST_NORM, cosine_scores

BYTES = 256


class Characters(nn.Module):
    """Strings as bytes (..., L) uint8, 0 behind the last -> vectors (..., H).

    A linear layer over the embeddings of three bytes is the sum of one row each of three tables.  The 0 on either side
    of a string marks its ends.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(BYTES, width) for _ in range(3))

    def forward(self, strings: Tensor) -> Tensor:
        """Return a vector for each string, of an empty one that of its two ends."""
        around, length = functional.pad(strings.int(), (1, 1)), strings.shape[-1]
        trigrams = sum(table(around[..., i : i + length]) for i, table in enumerate(self.tables))
        behind = functional.pad(strings[..., 1:] == 0, (1, 0), value=False)
        return trigrams.masked_fill(behind[..., None], -torch.inf).amax(-2)


class Dzmned(Head):
    """The head.  `model(batch)` -> scores (B, C), means of two cosines; padding is -inf."""

    projects = ("entity.text.sentence", "entity.ids.name")
    two_towers = True

    def __init__(self, config: DzmnedConfig) -> None:
        super().__init__()
        self.config = config
        self.characters = Characters(config.character_width)
        self.word = nn.Linear(config.text_width, config.width)
        self.character = nn.Linear(config.character_width, config.width)
        self.image = nn.Linear(config.image_width, config.width)
        self.attention = nn.Linear(3 * config.width, 3)
        self.entity = nn.Linear(config.text_width, config.width)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entities: unit vectors of text and of name, end to end, (..., D + H)."""
        return _unit(self.entity(columns["entity.text.sentence"]), self.characters(columns["entity.ids.name"]))

    def embed(self, batch: Batch) -> Tensor:
        """Return mentions: unit vectors of the modalities and of the characters, end to end, (B, D + H)."""
        characters = self.characters(batch["mention.ids.surface"])
        modalities = torch.stack(
            [
                self.word(batch["mention.text.span"]),
                self.character(characters),
                self.image(batch["mention.image.vector"]).where(batch["mention.image.present"][..., None], 0),
            ],
            -2,
        )
        weights = self.attention(modalities.flatten(-2)).sigmoid().softmax(-1)
        return _unit((weights[..., None] * modalities).sum(-2), characters)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the mean of the two matches; `projected` as in Drin.forward."""
        entities = self.project(batch.columns) if projected is None else projected
        return cosine_scores(entities, self.embed(batch)).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the margin ranking loss of scores (B, C)."""
        return margin_ranking(scores, batch.gold, batch.present, self.config.margin)

    def objective(self, batch: Batch) -> Tensor:
        """Return the losses of the two matches, added."""
        widths = (self.config.width, self.config.character_width)
        entities, mentions = self.project(batch.columns).split(widths, -1), self.embed(batch).split(widths, -1)
        losses = []
        for entity, mention in zip(entities, mentions, strict=True):
            scores = cosine_scores(entity, mention).masked_fill(~batch.present, -torch.inf)
            losses.append(self.loss(scores, batch))
        return losses[0] + losses[1]


def _unit(first: Tensor, second: Tensor) -> Tensor:
    """Return both vectors at length 1, end to end."""
    return torch.cat(
        [
            functional.normalize(first, dim=-1, eps=SMALLEST_NORM),
            functional.normalize(second, dim=-1, eps=SMALLEST_NORM),
        ],
        -1,
    )
