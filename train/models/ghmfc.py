"""GHMFC (Wang et al. 2022): co-attention between a sentence's tokens and its picture's regions, at two levels.

    t, v = LayerNorm(ReLU(Linear)) of tokens and regions
    p_i = max over n = 1, 2, 3 of LayerNorm(ReLU(Linear_n)) of tokens i; i-1, i; i-1, i, i+1         the phrase level
    r = Stack(v reads x), s = Stack(x reads r)          for x = t, and for x = p with stacks of its own
    h_t, h_v = LayerNorm of the max over tokens of s, over regions of r, both levels added
    a_t, a_v = softmax(g h_t, g h_v), one row g for both              f = a_t h_t + a_v h_v
    mention = Linear(ReLU(Linear([h_t; f])))            score = cos(mention, [CLS] of the entity)
    loss = mean over the other candidates j of max(S_j - S+ + 0.5, 0), plus losses.between_modalities(T = 0.6) of the
           means of t and of v

A layer of a stack adds to x self-attention, attention to what it reads, and a feed-forward net, each of LayerNorm(x);
the stack ends with a LayerNorm.  The authors' code (seukgcode/MEL-GHMFC f1586db) differs in five points: it leaves
[CLS] out, it has 196 regions, what it reads on the other side is added to x without the self-attention that asked, its
loss between modalities has no partner in the denominator, and it draws one negative, where here is the expectation over
the candidates.

`light` is what DRIN compares with: layers of attention to the other side alone, no phrases, GELU for the LayerNorm
before the gate, no filter Linear([h_t; f]) behind it, cos(f, Linear([CLS])), DRIN's loss.  Who reads whom first, and
how many layers there are, nobody says: as in the original.

Tokens past the end are never read, pooled or part of a phrase.  Of a mention without picture nothing reads regions, and
a_t = 1.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import ConfigError
from train.baseline_heads import GhmfcConfig
from train.batch import Batch
from train.losses import between_modalities, margin_ranking, triplet
from train.models.functions import cosine_scores
from train.models.head import Adjust, Head


class SequenceAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of one sequence to another, with dropout of its weights.

    nn.MultiheadAttention gives NaN where there is nothing to read, and its fused kernel runs seed by seed under vmap.
    """

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.query, self.value, self.out = (nn.Linear(config.width, config.width) for _ in range(3))
        self.key = nn.Linear(config.width, config.width, bias=False)  # one would add the same to all logits
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return what x (B, L, D) reads in memory (B, M, D) where `there` (B, M); zeros if that is nowhere."""
        query, key, value = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer, source in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        somewhere = there.any(-1, keepdim=True)
        hidden = ~(there | ~somewhere)[..., None, None, :]  # a softmax over nothing is NaN, in its gradient too
        logits = (query @ key.mT / math.sqrt(query.shape[-1])).masked_fill(hidden, -torch.inf)
        read = self.dropout(logits.softmax(-1)) @ value
        return self.out(read.transpose(-3, -2).flatten(-2)).where(somewhere[..., None], 0)


class Layer(nn.Module):
    """One layer of a stack: what reads itself and is fed forward only in blocks of kind `decoder`."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        width, self.decoder = config.width, config.blocks == "decoder"
        self.across, self.across_norm = SequenceAttention(config), nn.LayerNorm(width)
        if self.decoder:
            self.within, self.within_norm = SequenceAttention(config), nn.LayerNorm(width)
            hidden = nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(4 * width, width)
            self.feed, self.feed_norm = nn.Sequential(*hidden), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, own: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return x (B, L, D), of which `own` (B, L) are there, after reading memory (B, M, D) where `there` (B, M)."""
        if self.decoder:
            normal = self.within_norm(x)
            x = x + self.dropout(self.within(normal, normal, own))
        x = x + self.dropout(self.across(self.across_norm(x), memory, there))
        return x + self.dropout(self.feed(self.feed_norm(x))) if self.decoder else x


class Stack(nn.Module):
    """Layers, and a norm."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.attention_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, own: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return x after all layers; arguments as in Layer."""
        for layer in self.layers:
            x = layer(x, own, memory, there)
        return self.norm(x)


class Phrases(nn.Module):
    """The phrase at each token: the largest of its 1-, 2- and 3-gram, (B, T, D) -> (B, T, D); zeros around the text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grams = nn.ModuleList(_projection(n * width, width) for n in (1, 2, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the phrases of tokens that are 0 past the end."""
        before = functional.pad(tokens, (0, 0, 1, 0))[..., :-1, :]
        after = functional.pad(tokens, (0, 0, 0, 1))[..., 1:, :]
        around = torch.cat([tokens, before, after], -1)
        grams = [gram(around[..., : n * tokens.shape[-1]]) for n, gram in enumerate(self.grams, start=1)]
        return torch.stack(grams).amax(0)


class Level(nn.Module):
    """Regions read text, then the text reads what became of them; both pooled by their maximum."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.regions, self.text = Stack(config), Stack(config)

    def forward(self, text: Tensor, words: Tensor, regions: Tensor, picture: Tensor) -> Tensor:
        """Return pooled text and regions (2, B, D); text (B, T, D), regions (B, R, D), where `words`, `picture`."""
        regions = self.regions(regions, picture, text, words)
        text = self.text(text, words, regions, picture)
        return torch.stack([text.masked_fill(~words[..., None], -torch.inf).amax(-2), regions.amax(-2)])


class Ghmfc(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    projects = ("entity.bert.text",)
    two_towers = True

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.config = config = config.resolved
        if config.width % config.attention_heads:  # not of the config: other heads have a --width, too
            raise ConfigError(
                f"--width {config.width} must be a multiple of --attention-heads {config.attention_heads}"
            )
        width, decoder = config.width, config.blocks == "decoder"
        self.token = _projection(config.text_width, width)
        self.region = _projection(config.image_width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.words = Level(config)
        self.phrases, self.phrase_level = (Phrases(width), Level(config)) if config.phrases else (None, None)
        self.pooled = nn.ModuleList(nn.LayerNorm(width) if decoder else nn.GELU() for _ in range(2))
        self.gate = nn.Linear(width, 1, bias=False)  # one would cancel in the softmax
        self.filter = nn.Linear(2 * width, width) if decoder else None
        last = nn.Linear(width, config.text_width) if config.entity == "cls" else nn.Linear(config.text_width, width)
        self.mention, self.entity = (last, nn.Identity()) if config.entity == "cls" else (nn.Identity(), last)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return entity vectors, (..., W) -> (..., W), or (..., D) where they have a linear layer."""
        return self.entity(columns["entity.bert.text"])

    def embed(self, batch: Batch) -> Tensor:
        """Return mention vectors as wide as `project`'s."""
        return self._embed(batch, *self._inputs(batch))

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the mention and each candidate; `projected` as in Drin.forward."""
        return self._scores(batch, self.embed(batch), projected)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the triplet loss of scores (B, C), or DRIN's."""
        if self.config.ranking_loss == "triplet":
            return triplet(scores, batch.gold, batch.present, self.config.triplet_margin)
        return margin_ranking(scores, batch.gold, batch.present, self.config.margin)

    def objective(self, batch: Batch, adjust: Adjust | None = None) -> Tensor:
        """Return the loss of the scores, and between text and picture of mentions with gold, which padding lacks."""
        text, words, regions = self._inputs(batch)
        scores = self._scores(batch, self._embed(batch, text, words, regions))
        loss = self.loss(scores if adjust is None else adjust(scores), batch)
        if not self.config.contrastive:
            return loss
        means = text.sum(-2) / words.sum(-1, keepdim=True), regions.mean(-2)
        counts = batch["mention.regions.present"] & (batch.gold >= 0)
        return loss + self.config.contrastive * between_modalities(*means, counts, self.config.contrastive_temperature)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, T, D), 0 past the end, which are there (B, T), and regions (B, R, D)."""
        tokens, words = batch["token.bert.vector"], batch["token.bert.present"]
        if self.config.mention_token:
            tokens = torch.cat([batch["mention.bert.span"][..., None, :], tokens], -2)
            words = functional.pad(words, (1, 0), value=True)
        text = self.dropout(self.token(tokens)).masked_fill(~words[..., None], 0)
        return text, words, self.dropout(self.region(batch["mention.regions.image"]))

    def _embed(self, batch: Batch, text: Tensor, words: Tensor, regions: Tensor) -> Tensor:
        there = batch["mention.regions.present"][..., None]
        picture = there.expand(*there.shape[:-1], regions.shape[-2])
        pooled = self.words(text, words, regions, picture)
        if self.phrases is not None:
            phrases = self.phrases(text)
            pooled = pooled + self.phrase_level(phrases, words, regions, picture)
        own, seen = (layer(side) for layer, side in zip(self.pooled, pooled, strict=True))
        gates = torch.cat([self.gate(own), self.gate(seen).masked_fill(~there, -torch.inf)], -1).softmax(-1)
        fused = gates[..., :1] * own + gates[..., 1:] * seen
        if self.filter is not None:
            fused = self.filter(torch.cat([own, fused], -1)).relu()
        return self.mention(self.dropout(fused))

    def _scores(self, batch: Batch, mentions: Tensor, projected: Tensor | None = None) -> Tensor:
        entities = self.project(batch.columns) if projected is None else projected
        return cosine_scores(entities, mentions).masked_fill(~batch.present, -torch.inf)


def _projection(source: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(source, width), nn.ReLU(), nn.LayerNorm(width))
