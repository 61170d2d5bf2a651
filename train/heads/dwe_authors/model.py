"""DWE as its released code computes it: one attention for both units, a plain sum, N-pair loss on dot products.

    query = W Dropout(mention + attention of mention over objects + attention of mention over the sentence) + b

each of CLIP's vectors having gone through LayerNorm(ReLU(Linear)) and Dropout. Attention over the sentence, a set of
one, is `Readout`. With one negative n drawn for each mention, of query a and gold p the ranking loss is

    mean over i of log(1 + sum over all j of the batch of exp(a_i . (n_j - p_i)))  +  0.02 mean of |a_i|^2 + |p_i|^2

What the paper has instead is a switch. Other than in the code: objects are padded to the cache's K, there to the most
in a batch; a negative is one of the mention's candidates, there any entity, mostly a TF-IDF neighbor; mentions whose
gold is not among their candidates, or alone there, are left out; biases decay like weights, which over 300 epochs takes
a thousandth of them. Mentions without a picture stay in the alignment loss, as there.
"""

import math
from functools import cached_property

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.dwe.fusion import FUSIONS
from train.heads.dwe.matching import Matching, objects_of
from train.heads.dwe_authors.config import DweAuthorsConfig
from train.layers.attention import Attention, Readout
from train.layers.losses import counted, wide
from train.layers.pair_losses import across, against, info_nce, likest, n_pair, pair_triplet, squares
from train.layers.products import cosine_scores

NORM_WEIGHT = 0.02  # of the squared norms beside the N-pair loss


class DweAuthors(Matching):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    def __init__(self, config: DweAuthorsConfig) -> None:
        super().__init__(config.entity_text)
        self.config, width = config, config.joint_width
        self.text_trans, self.img_trans = (_translation(width, config.dropout) for _ in range(2))
        self.fusion = FUSIONS[config.fusion](width)
        if "vision" in self.fusion.reads or config.alignment_weight:
            self.attention = Attention(width, config.attention_heads)
            if not config.shared_attention:
                self.text_attention = Readout(width)
        self.out = nn.Sequential(nn.Dropout(config.dropout), _linear(self.fusion.parts * width, width))
        if config.alignment_weight:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(config.alignment_temperature)))

    def embed(self, batch: Batch) -> Tensor:
        """Return the queries (B, P)."""
        return self._query(Views(self, batch))

    def objective(self, batch: Batch) -> Tensor:
        """Return the weighted ranking and alignment losses, ()."""
        views, counts = Views(self, batch), counted(batch.gold, batch.present)
        ranking = self.config.ranking_weight * self._ranking(self._query(views), batch, counts)
        if not self.config.alignment_weight:
            return ranking
        scale = self.log_scale.exp()
        coarse = info_nce(views.image, views.sentence, counts, scale)
        fine = info_nce(views.vision, views.text, counts & views.objects[1].any(1), scale)
        return ranking + self.config.alignment_weight * (coarse + fine)

    def _query(self, views: "Views") -> Tensor:
        return self.out(self.fusion(*(getattr(views, name) for name in self.fusion.reads)))

    def _ranking(self, query: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """Return the loss of gold against one other candidate; no other is scored."""
        entities, other = self.project(batch.columns), self._negative(batch)
        ends = against(entities, batch.gold, other)
        scores = cosine_scores(ends, query)
        if self.config.ranking_loss == "triplet":
            return pair_triplet(scores, counts, self.config.triplet_margin)
        lengths = wide(query).norm(dim=-1, keepdim=True) * wide(ends).norm(dim=-1)
        dots, norms = scores * lengths, squares(query, counts) + squares(ends[:, 0], counts)
        own = dots[:, 1] - dots[:, 0]
        differences = own[:, None] if self.config.negatives == "own" else across(query, ends, own, counts)
        return n_pair(differences, counts) + NORM_WEIGHT * norms

    def _negative(self, batch: Batch) -> Tensor:
        """Return where each mention's other candidate stands, (B,): mostly the one whose name is most like its own."""
        return likest(batch, self.config.hard_negatives)


class Views:
    """What a head sees of mentions, (B, P) each, computed when it is asked for, and once: dropout draws anew."""

    def __init__(self, head: DweAuthors, batch: Batch) -> None:
        self._head, self._batch = head, batch

    @cached_property
    def mention(self) -> Tensor:
        return self._head.text_trans(self._batch["mention.joint.mention"])

    @cached_property
    def sentence(self) -> Tensor:
        return self._head.text_trans(self._batch["mention.joint.mention_sentence"])

    @cached_property
    def image(self) -> Tensor:
        return self._head.img_trans(self._batch["mention.joint.image"])

    @cached_property
    def objects(self) -> tuple[Tensor, Tensor]:
        """The objects, (B, K, P), and which of the rows are attended, (B, K)."""
        config = self._head.config
        vectors, there = objects_of(self._batch, persons_only=config.persons_only)
        return self._head.img_trans(vectors), there if config.mask_padding else torch.ones_like(there)

    @cached_property
    def vision(self) -> Tensor:
        return self._head.attention(self.mention[:, None], *self.objects)[:, 0]

    @cached_property
    def text(self) -> Tensor:
        shared = self._head.config.shared_attention
        return (self._head.attention.readout if shared else self._head.text_attention)(self.sentence)


def _translation(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(_linear(width, width), nn.ReLU(), nn.LayerNorm(width), nn.Dropout(dropout))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    return layer
