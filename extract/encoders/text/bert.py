"""BERT (`bert-base-cased`), the text encoder of the papers: [CLS], mean and pooler of a text."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from cache.fingerprint import digest
from cache.kinds import Source
from common.errors import WeightsError
from extract.encoders import transfer
from extract.encoders.compute import Compute
from extract.encoders.text import bert_files, toy_vocabulary
from extract.encoders.text.batches import TextEncoder
from extract.encoders.text.tokens import Tokens
from extract.encoders.transfer import Fetched
from extract.weights.sources import Weights, random_identity, sha256_file


class Bert(TextEncoder):
    """The text encoder of the papers."""

    name = "BERT"
    most = 512

    def __init__(self, weights: Weights, compute: Compute, batch: int) -> None:
        super().__init__(compute, batch)
        self._weights = weights
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

    def tokens(self, text: str, limit: int, source: Source = "sentence") -> Tokens:
        """Return the tokens of a text, cut at `limit`; a cut text keeps its [SEP]."""
        item = self._tokenizer.encode(text)
        cut = len(item.ids) > limit
        if cut:
            item.truncate(limit - 1)
        ids = [*item.ids, self._separator] if cut else item.ids
        return Tokens(ids, item.offsets, (1, len(ids) - 1) if len(ids) > 2 else (0, 1), cut)

    def begun(self, ids: np.ndarray, mask: np.ndarray) -> Fetched:
        """Begin BERT's last layer and its pooler's output."""
        model = self._loaded()
        self._refuse_unknown(int(ids.max()), ids.shape[1])
        there, there_mask = self._sent(ids, mask)
        with self._compute.autocast():
            output = model(input_ids=there, attention_mask=there_mask)
        return transfer.fetch(output.last_hidden_state, output.pooler_output)

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
