"""Multi-head attention with few questions to many vectors, none of which is projected (Vaswani et al. 2017, 3.2.2).

Exact algebra moves the matrices of keys and values to the side of the question, of which a mention has one:

    (W_k x + b_k) . q   = x . (W_k^T q) + b_k . q    the last term is the same for all x: softmax drops it, so no b_k
    sum a (W_v x + b_v) = W_v (sum a x) + b_v        where sum a = 1: attention itself has no dropout

nn.MultiheadAttention computes the same scores and projects every x twice.
"""

import torch
from torch import Tensor, nn

from common.errors import UntrainableError

STACKED_GAIN = 0.5**0.5  # nn.MultiheadAttention draws query, key and value as one matrix of three times the height


class Readout(nn.Module):
    """Attention over a set of one, whatever the question: W_o (W_v x + b_v) + b_o.  (..., P) -> (..., P)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.value.weight, STACKED_GAIN)
        nn.init.xavier_uniform_(self.out.weight)
        for layer in (self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.out(self.value(vectors))


class Attention(nn.Module):
    """Attention of Q questions over a set: (B, Q, P), (B, K, P), there (B, K) -> (B, Q, P); over an empty set zeros.

    `heads` divide the width P.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UntrainableError(
                f"--attention-heads {heads} does not divide {width}, the width of the cache's CLIP vectors"
            )
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.readout = Readout(width)
        nn.init.xavier_uniform_(self.query.weight, STACKED_GAIN)
        nn.init.zeros_(self.query.bias)
        nn.init.xavier_uniform_(self.key.weight, STACKED_GAIN)

    def forward(self, questions: Tensor, vectors: Tensor, there: Tensor) -> Tensor:
        keys, values = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.key, self.readout.value))
        asked = self.query(questions).unflatten(-1, (self.heads, -1)) * keys.shape[1] ** -0.5
        asked = torch.einsum("bqhd,hdp->bqhp", asked, keys)
        logits = asked.flatten(1, 2) @ vectors.mT
        # finite: the softmax of an empty set, which is dropped in the end, would be NaN, and its gradient too
        weights = logits.masked_fill(~there[:, None], torch.finfo(logits.dtype).min).softmax(-1)
        sums = (weights @ vectors).unflatten(1, (-1, self.heads))
        read = torch.einsum("bqhp,hdp->bqhd", sums, values).flatten(-2) + self.readout.value.bias
        return self.readout.out(read).masked_fill(~there.any(1)[:, None, None], 0)
