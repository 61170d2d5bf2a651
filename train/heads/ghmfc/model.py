"""GHMFC (Wang et al. 2022): co-attention between a sentence's tokens and its picture's regions, at two levels.

    t, v = LayerNorm(ReLU(Linear)) of tokens and regions
    p_i = max over n = 1, 2, 3 of LayerNorm(ReLU(Linear_n)) of tokens i; i-1, i; i-1, i, i+1         the phrase level
    r = Stack(v reads x), s = Stack(x reads r)          for x = t, and for x = p with stacks of its own (co_attention)
    h_t, h_v = LayerNorm of the max over tokens of s, over regions of r, both levels added
    a_t, a_v = softmax(g h_t, g h_v), one row g for both              f = a_t h_t + a_v h_v
    mention = Linear(ReLU(Linear([h_t; f])))            score = cos(mention, [CLS] of the entity)
    loss = ranking loss (below), plus losses.between_modalities(T = 0.6) of the means of t and of v

`original` is that with the stacks that the paper names, the expectation of its ranking loss: the mean over the other
candidates j of max(S_j - S+ + 0.5, 0). Tokens past the end are never read, pooled or part of a phrase.

`released` is what the authors' code computes (seukgcode/MEL-GHMFC f1586db): stacks of other layers (co_attention);
they read 32 tokens behind [CLS]; texts are filled up to 128 tokens with zero vectors, which no attention reads, but
which are part of phrases, maxima and the mean of t; that mean is over all 128, [CLS] among them; the loss between text
and picture has no partner in its denominator; one negative n is drawn, max(S_n - S+ + 0.5, 0) with cosines of which the
denominator is 1e-5 larger; dropout behind the LayerNorm of h_t and h_v, too; the matrices begin by Xavier's rule.

`light` is DRIN's version (ghmfc_light), with cos(mention, Linear(entity)) and DRIN's authors' loss.

Of a mention without picture nothing reads regions, and a_t = 1.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UntrainableError
from train.data.batch import Batch
from train.heads.base import Head
from train.heads.ghmfc.co_attention import Level, Phrases, Text, projection
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.ghmfc.light import Light
from train.layers.losses import batch_candidate_margins, between_modalities, counted, margin_ranking, triplet, wide
from train.layers.pair_losses import against, likest, pair_triplet
from train.layers.products import cosine_scores

LARGER = 1e-5  # than both lengths' product is the denominator of the cosine in the code's loss
RANKING = {"triplet": triplet, "margin": margin_ranking, "candidates": batch_candidate_margins}


class CoAttention(nn.Module):
    """Text and regions into one vector."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        if config.width % config.attention_heads:  # not of the config: other heads have a --width, too
            raise UntrainableError(
                f"--width {config.width} must be a multiple of --attention-heads {config.attention_heads}"
            )
        self.config, width = config, config.width
        self.token = projection(config.text_width, width)
        self.region = projection(config.image_width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.words = Level(config)
        self.phrases, self.phrase_level = (Phrases(width), Level(config)) if config.phrases else (None, None)
        self.pooled = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gate = nn.Linear(width, 1, bias=False)  # one would cancel in the softmax
        self.filter = nn.Linear(2 * width, width)

    def enter(self, text: Text, regions: Tensor, picture: Tensor) -> tuple[Text, Tensor]:
        """Return tokens t, 0 where they are not pooled, and regions v."""
        vectors = self.dropout(self.token(text.vectors)).masked_fill(~text.pooled[..., None], 0)
        return replace(text, vectors=vectors), self.dropout(self.region(regions))

    def forward(self, text: Text, regions: Tensor, picture: Tensor) -> Tensor:
        """Return the filtered f of mentions, (B, D), from what `enter` returned."""
        if self.config.window:
            text = text.part(slice(1, 1 + self.config.window))
        pooled = self.words(text, regions, picture)
        if self.phrases is not None:
            pooled = pooled + self.phrase_level(replace(text, vectors=self.phrases(text.vectors)), regions, picture)
        own, seen = (layer(side) for layer, side in zip(self.pooled, pooled, strict=True))
        if self.config.blocks == "released":
            own, seen = self.dropout(own), self.dropout(seen)
        there = picture.any(-1, keepdim=True)
        gates = torch.cat([self.gate(own), self.gate(seen).masked_fill(~there, -torch.inf)], -1).softmax(-1)
        return self.filter(torch.cat([own, gates[..., :1] * own + gates[..., 1:] * seen], -1)).relu()


class Ghmfc(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    two_towers = True

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.config = config = config.resolved
        self.projects = (f"entity.text.{config.entity_vector}",)
        self.fusion = Light(config) if config.blocks == "light" else CoAttention(config)
        self.dropout = nn.Dropout(config.dropout) if config.blocks != "light" else nn.Identity()
        sizes = config.width, config.text_width
        last = nn.Linear(*sizes) if config.entity == "cls" else nn.Linear(*reversed(sizes))
        self.mention, self.entity = (last, nn.Identity()) if config.entity == "cls" else (nn.Identity(), last)
        if config.blocks == "released":
            _begin_by_xavier(self)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entity vectors, (..., W) -> (..., W), or (..., D) where they have a linear layer."""
        return self.entity(columns[self.projects[0]])

    def embed(self, batch: Batch) -> Tensor:
        """Return mention vectors as wide as `project`'s."""
        return self._embed(*self._enter(batch))

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the mention and each candidate; `projected` as in Drin.forward."""
        entities = self.project(batch.columns) if projected is None else projected
        return cosine_scores(entities, self.embed(batch)).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the ranking loss of scores (B, C)."""
        ranking, gold, present = self.config.ranking_loss, batch.gold, batch.present
        margin = self.config.triplet_margin if ranking in ("triplet", "drawn") else self.config.margin
        if ranking != "drawn":
            return RANKING[ranking](scores, gold, present, margin)
        other = likest(batch, self.config.hard_negatives)
        return pair_triplet(against(scores.where(present, 0), gold, other), counted(gold, present), margin)

    def objective(self, batch: Batch) -> Tensor:
        """Return the loss of the scores, and between text and picture of mentions with gold, which padding lacks."""
        text, regions, picture = self._enter(batch)
        mentions, entities = self._embed(text, regions, picture), self.project(batch.columns)
        scores = cosine_scores(entities, mentions)
        if self.config.ranking_loss == "drawn":
            lengths = wide(entities).norm(dim=-1) * wide(mentions).norm(dim=-1, keepdim=True)
            scores = scores * lengths / (lengths + LARGER)
        scores = scores.masked_fill(~batch.present, -torch.inf)
        loss = self.loss(scores, batch)
        if not self.config.contrastive:
            return loss
        means = text.vectors.sum(-2) / text.pooled.sum(-1, keepdim=True), regions.mean(-2)
        counts, temperature = batch["mention.regions.present"] & (batch.gold >= 0), self.config.contrastive_temperature
        between = between_modalities(*means, counts, temperature, partners=self.config.partners)
        return loss + self.config.contrastive * between

    def _enter(self, batch: Batch) -> tuple[Text, Tensor, Tensor]:
        """Return the sentence, regions (B, R, D), and which of those are there, (B, R)."""
        tokens, words = batch["token.text.vector"], batch["token.text.present"]
        if self.config.padding == "pooled":
            missing = self.config.tokens - words.shape[-1]
            tokens = functional.pad(tokens.masked_fill(~words[..., None], 0), (0, 0, 0, missing))
            words = functional.pad(words, (0, missing))
        if self.config.mention_token:
            place = min(self.config.window, 1)  # behind a [CLS] that is left out
            span, true = batch["mention.text.span"][..., None, :], torch.ones_like(words[..., :1])
            tokens = torch.cat([tokens[..., :place, :], span, tokens[..., place:, :]], -2)
            words = torch.cat([words[..., :place], true, words[..., place:]], -1)
        regions, there = batch["mention.regions.vector"], batch["mention.regions.present"][..., None]
        picture = there.expand(*there.shape[:-1], regions.shape[-2])
        pooled = words if self.config.padding == "masked" else torch.ones_like(words)
        return *self.fusion.enter(Text(tokens, words, pooled), regions, picture), picture

    def _embed(self, text: Text, regions: Tensor, picture: Tensor) -> Tensor:
        return self.mention(self.dropout(self.fusion(text, regions, picture)))


def _begin_by_xavier(module: nn.Module) -> None:
    """Draw all matrices as the code does; an n-gram's is one of n there, D x D each, so its numbers are smaller."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for phrases in (part for part in module.modules() if isinstance(part, Phrases)):
        for n, gram in enumerate(phrases.grams, start=1):
            nn.init.xavier_uniform_(gram[0].weight, ((n + 1) / (2 * n)) ** 0.5)
