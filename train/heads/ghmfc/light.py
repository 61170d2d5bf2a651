"""GHMFC as DRIN compares with it: what the baselines folder of DRIN's code computes (starreeze/drin d00dfc5).

t = text reads regions, v = regions read text, each as wide as its own side, in two steps without residual from x:
    r = N(attention(x, other side));  r = N(r + W r)      what x reads on the other side
    s = N(attention(r, x));           s = N(s + W s)      what that reads on its own
h_t = gelu(Linear(max over tokens of s)), h_v = gelu(Linear(max over regions of s))
a = softmax(Linear([h_t; h_v]))                           mention = a_t h_t + a_v h_v
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UntrainableError
from train.heads.ghmfc.co_attention import SequenceAttention, Text, largest
from train.heads.ghmfc.config import GhmfcConfig
from train.layers.attention import STACKED_GAIN


class Crossing(nn.Module):
    """One side reads the other, and with that its own.  x (B, L, W) of which `own` are there -> (B, L, W)."""

    def __init__(self, width: int, other: int, config: GhmfcConfig) -> None:
        super().__init__()
        heads, dropout = config.attention_heads, config.dropout
        self.across = _as_torchs(SequenceAttention(width, other, heads, dropout))
        self.within = _as_torchs(SequenceAttention(width, width, heads, dropout))
        self.feeds = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(self, x: Tensor, own: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        read = self.norms[0](self.across(x, memory, there))
        read = self.norms[1](read + self.feeds[0](read))
        read = self.norms[2](self.within(read, x, own))
        return self.norms[3](read + self.feeds[1](read))


class Light(nn.Module):
    """Text and regions into one vector.  A picture that is missing is read as zeros; theirs is a default picture."""

    def __init__(self, config: GhmfcConfig) -> None:
        super().__init__()
        text, image, width = config.text_width, config.image_width, config.width
        for name, size in (("text", text), ("picture", image)):
            if size % config.attention_heads:
                raise UntrainableError(
                    f"--attention-heads {config.attention_heads} does not divide {size}, the width of the cache's "
                    f"{name} vectors"
                )
        self.text, self.image = Crossing(text, image, config), Crossing(image, text, config)
        self.sides = nn.ModuleList(nn.Linear(size, width) for size in (text, image))
        self.score = nn.Linear(2 * width, 2)

    def enter(self, text: Text, regions: Tensor, picture: Tensor) -> tuple[Text, Tensor]:
        """Return the sentence as it is, and regions (B, R, V), 0 where no picture is there (B, R)."""
        return text, regions.masked_fill(~picture[..., None], 0)

    def forward(self, text: Text, regions: Tensor, picture: Tensor) -> Tensor:
        """Return the vectors of mentions, (B, D)."""
        every = torch.ones_like(picture)
        read = largest(self.text(text.vectors, text.words, regions, every), text.pooled)
        seen = self.image(regions, every, text.vectors, text.words).amax(-2)
        both = [functional.gelu(layer(side)) for layer, side in zip(self.sides, (read, seen), strict=True)]
        shares = self.score(torch.cat(both, -1)).softmax(-1)
        return shares[..., :1] * both[0] + shares[..., 1:] * both[1]


def _as_torchs(attention: SequenceAttention) -> SequenceAttention:
    """Draw the weights as nn.MultiheadAttention does."""
    width, source = attention.key.weight.shape
    for layer in (attention.query, attention.key, attention.value):
        nn.init.xavier_uniform_(layer.weight, STACKED_GAIN if width == source else 1)
    for layer in (attention.query, attention.value, attention.out):
        nn.init.zeros_(layer.bias)
    return attention
