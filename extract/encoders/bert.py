"""BERT (`bert-base-cased`): [CLS], mean and pooler of a text, and the mean over a mention's tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from cache.fingerprint import digest
from cache.kinds import Source
from common.errors import WeightsError
from extract.encoders import bert_files, toy_vocabulary
from extract.encoders.base import Encoder
from extract.encoders.bert_tokens import Span, Tokens
from extract.encoders.compute import Compute
from extract.weights.sources import Weights, random_identity, sha256_file


@dataclass(frozen=True)
class Encoded:
    """One batch: `index` (b,) says which texts these are; vectors are float32 (b, D).

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
            "entity.bert": {"text": self.cls, "mean": self.mean, "pooler": self.pooler, "truncated": self.truncated},
            "mention.bert": {
                "span": self.spans,
                "found": self.found,
                "cls": [np.tile(cls, (n, 1)) for cls, n in zip(self.cls, count, strict=True)],
                "truncated": [np.full(n, cut) for cut, n in zip(self.truncated, count, strict=True)],
            },
            "token.bert": {"vector": self.states},
        }[part]


class Bert(Encoder):
    """The text encoder.  `recipe` and `width` (D) are known before the weights are loaded."""

    name = "BERT"

    def __init__(self, weights: Weights, compute: Compute, batch: int) -> None:
        super().__init__("texts")
        self._weights, self._compute, self._batch = weights, compute, batch
        self._model: torch.nn.Module | None = None
        self._path: Path | None = None
        if weights.random:
            words = toy_vocabulary.build()
            identity = random_identity(weights.kind, "transformers")
            config = _TINY if weights.tiny else {}
        else:
            self._path = weights.find(bert_files.MODEL, bert_files.download)
            identity = sha256_file(self._path)
            config = bert_files.config_of(self._path.with_name("config.json"))
            words = bert_files.vocabulary(self._path.parent)
        self._config = config
        self.width: int = (bert_files.DECISIVE | config)["hidden_size"]
        self._tokenizer = BertWordPieceTokenizer(vocab=words, lowercase=False)
        self.tokens_recipe: dict[str, Any] = {"tokenizer": "WordPiece, cased", "vocabulary": digest(words)}
        self.recipe: dict[str, Any] = {
            "encoder": "transformers BertModel",
            "architecture": "bert-base-cased" if not weights.tiny else "bert, tiny",
            "weights": identity,
            "config": digest(config),
            "vocabulary": digest(words),
            "compute": compute.precision,
            "batch": f"{batch} texts of one shard in order of length",
        }

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part; where tokens lie is decided by the vocabulary alone."""
        return self.tokens_recipe if part == "mention.tokens" else super().recipe_of(part)

    def texts_of(self, source: Source, limit: int) -> Callable[[Sequence[str]], Any]:
        """Return the function that encodes texts, cut at `limit` tokens."""
        return lambda texts: list(self.encode(texts, limit))

    def count(self, text: str, limit: int) -> int:
        """Return how many tokens of a text are read."""
        return len(self.tokens(text, limit).ids)

    def tokens(self, text: str, limit: int) -> Tokens:
        """Return the tokens of a text, cut at `limit`; a cut text keeps its [SEP]."""
        item = self._tokenizer.encode(text)
        if len(item.ids) <= limit:
            return Tokens(item.ids, item.offsets, cut=False)
        item.truncate(limit - 1)
        return Tokens([*item.ids, self._separator], item.offsets, cut=True)

    def encode(self, texts: Sequence[str], limit: int, spans: Sequence[Sequence[Span]] = ()) -> Iterator[Encoded]:
        """Yield batches of equal-length-sorted texts, cut at `limit` tokens.

        `spans[i]` are character offsets (half open) into text i. A span that is (-1, -1), or that no kept token
        touches, is not found and gets the mean of tokens 1..n-2.
        """
        tokens = [self.tokens(text, limit) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: (len(tokens[i].ids), i))
        for begin in range(0, len(order), self._batch):
            index = order[begin : begin + self._batch]
            yield self._encode([tokens[i] for i in index], index, [spans[i] if spans else () for i in index])

    @torch.inference_mode()
    def _encode(self, tokens: list[Tokens], index: list[int], spans: list[Sequence[Span]]) -> Encoded:
        length = max(len(item.ids) for item in tokens)
        ids = torch.zeros(len(tokens), length, dtype=torch.long)
        mask = torch.zeros(len(tokens), length, dtype=torch.long)
        for row, item in enumerate(tokens):
            ids[row, : len(item.ids)], mask[row, : len(item.ids)] = torch.tensor(item.ids), 1
        model, device = self._loaded(), self._compute.device
        self._refuse_unknown(int(ids.max()), length)
        with self._compute.autocast():
            output = model(input_ids=ids.to(device), attention_mask=mask.to(device))
        hidden, pooler = output.last_hidden_state.float().cpu().numpy(), output.pooler_output.float().cpu().numpy()
        self.counts["texts"] += len(index)
        states = [row[: len(item.ids)] for row, item in zip(hidden, tokens, strict=True)]
        means = np.stack([_inner_mean(vectors) for vectors in states])
        pooled = [_spans(*each) for each in zip(states, tokens, spans, means, strict=True)]
        return Encoded(
            index=index,
            states=states,
            cls=hidden[:, 0],
            mean=means,
            pooler=pooler,
            truncated=np.array([item.cut for item in tokens]),
            spans=[vectors for vectors, _ in pooled],
            found=[found for _, found in pooled],
        )

    def _refuse_unknown(self, word: int, length: int) -> None:
        """Raise WeightsError for a word or a length that the model has no vector of: files that do not fit together."""
        words, places = self._loaded().config.vocab_size, self._loaded().config.max_position_embeddings
        if word >= words or length > places:
            raise WeightsError(
                f"{self._path} has {words:,} words and {places:,} positions, and a text has word {word:,} and "
                f"{length:,} tokens. Take the weights and the vocabulary both from {bert_files.REPOSITORY}"
            )

    @property
    def _separator(self) -> int:
        return self._tokenizer.token_to_id("[SEP]")

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place(bert_files.load(self._path, self._config))
        return self._model


_TINY = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "initializer_range": 0.1,
}


def _inner_mean(vectors: np.ndarray) -> np.ndarray:
    return vectors[1:-1].mean(0) if len(vectors) > 2 else vectors[0]


def _spans(
    vectors: np.ndarray, tokens: Tokens, wanted: Sequence[Span], mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows, found = np.tile(mean, (len(wanted), 1)), np.zeros(len(wanted), bool)
    for n, span in enumerate(wanted):
        start, end = tokens.under(span)
        if start >= 0:
            rows[n], found[n] = vectors[start:end].mean(0), True
    return rows, found
