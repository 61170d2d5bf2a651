"""What every text encoder does: batches in order of length, a vector of the text, and the mean over a span's tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cache.kinds import Source
from extract.encoders import transfer
from extract.encoders.base import Encoder
from extract.encoders.compute import Compute
from extract.encoders.flight import in_flight
from extract.encoders.text.tokens import Span, Tokens
from extract.encoders.transfer import Fetched


@dataclass(frozen=True)
class Encoded:
    """One batch: `index` (b,) says which texts these are; vectors are float32 (b, D).

    `cls` are the vectors of the texts, `mean` of their tokens but special ones, `pooler` the model's pooler's.
    `states[i]` is (T, D), the last layer over the T tokens of text i; `spans[i]` is (n, D) for the n spans asked for,
    `found[i]` (n,) whether each was there.
    """

    index: list[int]
    states: list[np.ndarray]
    cls: np.ndarray
    mean: np.ndarray
    pooler: np.ndarray
    truncated: np.ndarray
    spans: list[np.ndarray]
    found: list[np.ndarray]

    def of(self, part: str) -> dict[str, Sequence[np.ndarray]]:
        """Return the columns of a part: for each of the b texts a vector, one a span, or one a token."""
        count = [len(spans) for spans in self.spans]
        return {
            "entity.text": {
                "sentence": self.cls,
                "mean": self.mean,
                "pooler": self.pooler,
                "truncated": self.truncated,
            },
            "mention.text": {
                "span": self.spans,
                "found": self.found,
                "sentence": [np.tile(cls, (n, 1)) for cls, n in zip(self.cls, count, strict=True)],
                "truncated": [np.full(n, cut) for cut, n in zip(self.truncated, count, strict=True)],
            },
            "token.text": {"vector": self.states},
        }[part]


class TextEncoder(Encoder):
    """Text to vectors.  `recipe`, `width` (D) and `most`, its own limit of tokens, are known before its weights.

    `tokens_recipe` decides where tokens lie.
    """

    most: int
    tokens_recipe: dict[str, Any]
    pad = 0  # the word that fills the shorter texts of a batch

    def __init__(self, compute: Compute, batch: int) -> None:
        super().__init__("texts")
        self._compute, self._batch = compute, batch

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part; where tokens lie is decided by what makes tokens alone."""
        return self.tokens_recipe if part == "mention.tokens" else super().recipe_of(part)

    def texts_of(self, source: Source, limit: int) -> Callable[[Sequence[str]], Any]:
        """Return the function that encodes texts, cut at `limit` tokens."""
        return lambda texts: list(self.encode(texts, limit, source=source))

    def count(self, text: str, limit: int) -> int:
        """Return how many tokens of a sentence are read."""
        return len(self.tokens(text, limit).ids)

    def tokens(self, text: str, limit: int, source: Source = "sentence") -> Tokens:
        """Return the tokens of a text, cut at `limit` and at the encoder's own limit; a cut text keeps its last one."""
        raise NotImplementedError

    def begun(self, ids: np.ndarray, mask: np.ndarray) -> Fetched:
        """Begin the last layer (b, T, D) of ids and mask (b, T), and what the model's pooler, if any, makes of it."""
        raise NotImplementedError

    def _sent(self, ids: np.ndarray, mask: np.ndarray) -> list[torch.Tensor]:
        """Return ids and mask on the device, copied there at once."""
        return transfer.send([ids, mask], self._compute.device)

    def pooled(self, states: np.ndarray, tokens: Tokens) -> np.ndarray:
        """Return the vector (D,) of a text from its last layer (T, D): [CLS]."""
        first: np.ndarray = states[0]
        return first

    def encode(
        self, texts: Sequence[str], limit: int, spans: Sequence[Sequence[Span]] = (), source: Source = "sentence"
    ) -> Iterator[Encoded]:
        """Yield batches of equal-length-sorted texts, cut at `limit` tokens.

        `spans[i]` are character offsets (half open) into text i. A span that is (-1, -1), or that no kept token
        touches, is not found and gets the text's mean.
        """
        tokens = [self.tokens(text, limit, source) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: (len(tokens[i].ids), i))
        batches = list(self._batches(order, [len(item.ids) for item in tokens]))
        begun = (self._begun([tokens[i] for i in index]) for index in batches)
        for index, found in zip(batches, in_flight(begun, self._compute.ahead), strict=True):
            yield self._encode(found, [tokens[i] for i in index], index, [spans[i] if spans else () for i in index])

    def _batches(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Yield the texts of each call, in `order`, that of their `lengths` in tokens."""
        for begin in range(0, len(order), self._batch):
            yield order[begin : begin + self._batch]

    @torch.inference_mode()
    def _begun(self, tokens: list[Tokens]) -> Fetched:
        length = max(len(item.ids) for item in tokens)
        ids, mask = np.full((len(tokens), length), self.pad), np.zeros((len(tokens), length), np.int64)
        for row, item in enumerate(tokens):
            ids[row, : len(item.ids)], mask[row, : len(item.ids)] = item.ids, 1
        return self.begun(ids, mask)

    def _encode(
        self, found: list[np.ndarray], tokens: list[Tokens], index: list[int], spans: list[Sequence[Span]]
    ) -> Encoded:
        hidden, pooler = (*found, None)[:2]
        self.counts["texts"] += len(index)
        states = [row[: len(item.ids)] for row, item in zip(hidden, tokens, strict=True)]
        means = np.stack([_mean(vectors, item.inner) for vectors, item in zip(states, tokens, strict=True)])
        cls = np.stack([self.pooled(vectors, item) for vectors, item in zip(states, tokens, strict=True)])
        found = [_spans(*each) for each in zip(states, tokens, spans, means, strict=True)]
        return Encoded(
            index=index,
            states=states,
            cls=cls,
            mean=means,
            pooler=cls if pooler is None else pooler,
            truncated=np.array([item.cut for item in tokens]),
            spans=[vectors for vectors, _ in found],
            found=[there for _, there in found],
        )


def _mean(vectors: np.ndarray, inner: Span) -> np.ndarray:
    mean: np.ndarray = vectors[inner[0] : inner[1]].mean(0)
    return mean


def _spans(
    vectors: np.ndarray, tokens: Tokens, wanted: Sequence[Span], mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows, found = np.tile(mean, (len(wanted), 1)), np.zeros(len(wanted), bool)
    for n, span in enumerate(wanted):
        start, end = tokens.under(span)
        if start >= 0:
            rows[n], found[n] = vectors[start:end].mean(0), True
    return rows, found
