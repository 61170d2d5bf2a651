"""A text encoder by name (`--text`): any family of transformers, pooled as the model says of itself."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from cache.fingerprint import digest
from cache.kinds import KINDS, Source
from cache.names import PartName
from common.errors import ConfigError, WeightsError
from extract.config import ExtractConfig
from extract.encoders import transfer
from extract.encoders.compute import Compute
from extract.encoders.text import pooling
from extract.encoders.text.batches import TextEncoder
from extract.encoders.text.model import TextModel
from extract.encoders.text.tokenizer import Tokenizer
from extract.encoders.text.tokens import Tokens
from extract.encoders.transfer import Fetched
from extract.weights import hub_files
from extract.weights.sources import Weights, library, random_identity


class NamedText(TextEncoder):
    """The text encoder that --text names.  Raises WeightsError, in one line, for a model that it cannot be."""

    def __init__(self, config: ExtractConfig, weights: Weights, compute: Compute) -> None:
        super().__init__(compute, config.text_tokens or compute.tokens)
        asked, self._trained = str(config.text), not weights.random
        self.name = hub_files.called(asked)
        place = hub_files.find(asked, weights, "text")
        self._folder, self.origin = place.folder, hub_files.origin(place.weights)
        self._described = model = TextModel(place, tiny=weights.tiny)
        self._tokenizer, self._model = Tokenizer(model), None
        self.width, self.most, self.pad = model.config.hidden_size, self._tokenizer.most, self._tokenizer.pad
        self.pooling = pooling.of(
            place, config.text_pooling, self.width, decoder=model.decoder, opened=self._tokenizer.opened
        )
        self._prompts = {
            "name": _chosen(config.passage_prompt, self._folder, pooling.PASSAGE),
            "sentence": _chosen(config.query_prompt, self._folder, pooling.QUERY),
        }
        self._refuse_long_prompts(config)
        self.tokens_recipe = self._tokenizer.recipe | {"prompt": self._prompts["sentence"]}
        self.recipe: dict[str, Any] = self._tokenizer.recipe | {
            "encoder": f"AutoModel {model.made.__name__}",
            "library": library("transformers"),
            "weights": hub_files.identity(place.weights, "text")
            if self._trained
            else random_identity(weights.kind, "transformers"),
            "config": digest(model.decisive),
            "attention": model.attention,
            "pooling": self.pooling.said(),
            "compute": compute.precision,
            "batch": f"{self._batch} tokens of one shard in order of length",
        }

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part: the prompt is that of what it reads."""
        if part == "mention.tokens":
            return self.tokens_recipe
        return {"encoder": self.recipe, "prompt": self._prompts[_side(KINDS[PartName(part)].reads[0])]}

    def tokens(self, text: str, limit: int, source: Source = "sentence") -> Tokens:
        """Return the tokens of a text behind the prompt of its side, cut at `limit` and at the model's own limit."""
        return self._tokenizer.tokens(text, limit, self._prompts[_side(source)])

    def begun(self, ids: np.ndarray, mask: np.ndarray) -> Fetched:
        """Begin the model's last layer, and its pooler's output where it has a trained one."""
        model = self._loaded()
        words = self._described.config.vocab_size
        if (word := next((int(n) for n in (ids.max(), ids.min()) if not 0 <= n < words), None)) is not None:
            raise WeightsError(
                f"{self._folder} has {words:,} words, and its tokenizer makes word {word:,}. Take both from one model"
            )
        there, there_mask = self._sent(ids, mask)
        with self._compute.autocast():
            output = model(input_ids=there, attention_mask=there_mask)
        pooler = getattr(output, "pooler_output", None)
        return transfer.fetch(output.last_hidden_state, *([] if pooler is None else [pooler]))

    def pooled(self, states: np.ndarray, tokens: Tokens) -> np.ndarray:
        """Return the vector (D,) of a text as the model pools it."""
        return self.pooling.of(states, tokens.prompt)

    def _batches(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Yield the texts of each call: padded to the longest, they have no more tokens than are read at once."""
        batch: list[int] = []
        for text in order:  # of rising length
            if batch and (len(batch) + 1) * lengths[text] > self._batch:
                yield batch
                batch = []
            batch.append(text)
        if batch:
            yield batch

    def _refuse_long_prompts(self, config: ExtractConfig) -> None:
        for side, prompt in self._prompts.items():
            length = self._tokenizer.length(prompt)
            most = min(self.most, config.most_tokens("name" if side == "name" else "sentence"))
            if length + 2 > most:
                raise ConfigError(
                    f"the prompt {prompt!r:.60} takes {length} of the {most} tokens that are read: no text "
                    "would be left. Shorten it, or raise --entity-tokens or --sentence-tokens"
                )

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place_packed(self._described.load(trained=self._trained))
        return self._model


def _side(source: Source) -> str:
    """Return the side of a text: an entity's is searched, and a mention's sentence asks for it."""
    return "name" if source == "name" else "sentence"


def _chosen(asked: str | None, folder: Any, names: tuple[str, ...]) -> str:
    return pooling.prompt(folder, names) if asked is None else asked
