"""Co-attention of GHMFC: stacks in which a sentence's tokens and a picture's regions read each other.

A layer adds to x (B, L, D) what it reads, in blocks of two kinds:
    decoder    y = x + self-attention(N(x));  z = y + attention(N(y), other side);  z + feed-forward(N(z))
    released   y = x + self-attention(x);     z = x + attention(y, other side);     z + feed-forward(N(z))
N is LayerNorm; in released blocks, and behind their stack, it divides by the unbiased deviation plus 1e-6.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.heads.ghmfc.config import GhmfcConfig
from train.layers.losses import wide

SMALLEST_VARIANCE = 1e-30  # below it the square root's gradient would not be finite


class SequenceAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of one sequence to another, with dropout of its weights.

    nn.MultiheadAttention gives NaN where there is nothing to read, and its fused kernel runs seed by seed under vmap.
    """

    def __init__(self, width: int, source: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(size, width) for size in (width, source, width))
        self.key = nn.Linear(source, width, bias=False)  # one would add the same to all logits
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return what x (B, L, D) reads in memory (B, M, W) where `there` (B, M); zeros if that is nowhere."""
        query, key, value = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer, source in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        somewhere = there.any(-1, keepdim=True)
        hidden = ~(there | ~somewhere)[..., None, None, :]  # a softmax over nothing is NaN, in its gradient too
        logits = (query @ key.mT / math.sqrt(query.shape[-1])).masked_fill(hidden, -torch.inf)
        read = self.dropout(logits.softmax(-1)) @ value
        return self.out(read.transpose(-3, -2).flatten(-2)).where(somewhere[..., None], 0)


class UnbiasedNorm(nn.Module):
    """weight * (x - mean) / (deviation + 1e-6) + bias, with the deviation's square over D - 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = wide(x)
        variance, mean = torch.var_mean(x, -1, keepdim=True)
        return self.weight * (x - mean) / (variance.clamp(min=SMALLEST_VARIANCE).sqrt() + 1e-6) + self.bias


def norm_of(config: GhmfcConfig) -> nn.Module:
    """Return a new norm of the blocks' kind."""
    return (UnbiasedNorm if config.blocks == "released" else nn.LayerNorm)(config.width)


class Layer(nn.Module):
    """One layer of a stack."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        width = config.width
        self.across, self.within = (
            SequenceAttention(width, width, config.attention_heads, config.dropout) for _ in range(2)
        )
        hidden = nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(4 * width, width)
        self.feed, self.feed_norm = nn.Sequential(*hidden), norm_of(config)
        self.decoder = config.blocks == "decoder"
        if self.decoder:
            self.across_norm, self.within_norm = norm_of(config), norm_of(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, own: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return x (B, L, D), of which `own` (B, L) are there, after reading memory (B, M, D) where `there` (B, M)."""
        if self.decoder:
            normal = self.within_norm(x)
            x = x + self.dropout(self.within(normal, normal, own))
            x = x + self.dropout(self.across(self.across_norm(x), memory, there))
        else:
            asking = x + self.dropout(self.within(x, x, own))
            x = x + self.dropout(self.across(asking, memory, there))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class Stack(nn.Module):
    """Layers, and a norm."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.attention_layers))
        self.norm = norm_of(config)

    def forward(self, x: Tensor, own: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Return x after all layers; arguments as in Layer."""
        for layer in self.layers:
            x = layer(x, own, memory, there)
        return self.norm(x)


class Phrases(nn.Module):
    """The phrase at each token: the largest of its 1-, 2- and 3-gram, (B, T, D) -> (B, T, D); zeros around the text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grams = nn.ModuleList(projection(n * width, width) for n in (1, 2, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the phrases of tokens."""
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

    def forward(self, text: "Text", regions: Tensor, picture: Tensor) -> Tensor:
        """Return pooled text and regions (2, B, D); regions (B, R, D), of which `picture` (B, R) are there."""
        regions = self.regions(regions, picture, text.vectors, text.words)
        read = self.text(text.vectors, text.words, regions, picture)
        return torch.stack([largest(read, text.pooled), regions.amax(-2)])


@dataclass(frozen=True)
class Text:
    """A sentence: vectors (B, T, D); which of them are tokens, which others read, and which are pooled, (B, T) each."""

    vectors: Tensor
    words: Tensor
    pooled: Tensor

    def part(self, places: slice) -> "Text":
        """Return some of it."""
        return Text(self.vectors[..., places, :], self.words[..., places], self.pooled[..., places])


def largest(vectors: Tensor, there: Tensor) -> Tensor:
    """Return the maximum over the vectors (B, T, D) where `there` (B, T) -> (B, D)."""
    return vectors.masked_fill(~there[..., None], -torch.inf).amax(-2)


def projection(source: int, width: int) -> nn.Sequential:
    """Return LayerNorm(ReLU(Linear))."""
    return nn.Sequential(nn.Linear(source, width), nn.ReLU(), nn.LayerNorm(width))
