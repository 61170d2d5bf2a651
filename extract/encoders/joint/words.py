"""How an open_clip model reads a text: its own tokenizer, cleaning and limit, as open_clip's get_tokenizer has them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from cache.fingerprint import digest
from common.errors import WeightsError
from common.paths import is_file
from extract.encoders.text.model import TOKENIZERS
from extract.weights import states

LIMIT = 77  # tokens, of a model that says none
MOST = 1 << 13  # of which a model keeps the square, its mask
CLEANING = ("whitespace", "lower", "canonicalize")
# what a config may ask of a tokenizer: nothing else, as the rest goes to transformers, trust_remote_code included
OPTIONS = ("clean", "strip_sep_token", "language")
MODES = (None, "", "clips")


class Words:
    """The tokenizer of a text config, its files in a `folder` or, of open_clip's own, inside the library.

    `most` is the model's limit of tokens T. Raises WeightsError.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path | None) -> None:
        self._name = name
        options, mode = _options(name, config), config.get("tokenizer_mode")
        self.most = config.get("context_length", LIMIT)
        if type(self.most) is not int or not 3 < self.most <= MOST or mode not in MODES:
            raise WeightsError(f"{name}: {self.most!r:.40} tokens in mode {mode!r:.40}, which open_clip does not have")
        self._special = 1 if mode == "clips" else 0  # tokens behind the padding
        if folder is None:
            self._words: Any = SimpleTokenizer(context_length=self.most, **options)
            decides: Any = [list(self._words.encoder), [list(pair) for pair in self._words.bpe_ranks]]
        else:
            self._words = _of_files(name, folder, self.most, mode, options)
            if config.get("pool_type") == "eos":
                self._words.clean_fn = self._without(config.get("eos_id", 2), self._words.clean_fn)
            decides = self._words.tokenizer.backend_tokenizer.to_str()
        self._own = folder is None
        kind = type(self._words).__name__
        self.recipe: dict[str, Any] = {
            "tokenizer": f"{kind} {digest([decides, dict(options), mode or ''])}",
            "limit": self.most,
        }

    @property
    def padding(self) -> int | None:
        """The word that fills a text up, None where it is the library's own 0."""
        found: int | None = None if self._own else self._words.tokenizer.pad_token_id
        return found

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Return token ids, cut at the limit T and padded to it: (n, T)."""
        if not self._own:
            found: torch.Tensor = self._words(list(texts))
            return found
        ids = torch.zeros(len(texts), self.most, dtype=torch.long)
        for row, text in enumerate(texts):
            own = self._inner(text)[: self.most - 2]
            ids[row, : len(own) + 2] = torch.tensor([self._words.sot_token_id, *own, self._words.eot_token_id])
        return ids

    def count(self, text: str) -> int:
        """Return how many tokens are read of a text, special ones included."""
        return min(self._length(text), self.most - self._special)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than are read."""
        # a token is at least a byte and cleaning lengthens no text more than fourfold, so short texts need no count
        if self._own and len(text.encode()) * 4 <= self.most - 2:
            return False
        return self._length(text) > self.most - self._special

    def _length(self, text: str) -> int:
        """Return how many tokens a text has, uncut, special ones included."""
        if self._own:
            return len(self._inner(text)) + 2
        bare = bool(self._special)  # of mode clips: begin and end are put around it
        ids = self._words.tokenizer(self._words.clean_fn(text), add_special_tokens=not bare).input_ids
        return len(ids) + 2 * bare

    def _without(self, end: object, clean: Callable[[str], str]) -> Callable[[str], str]:
        """Return `clean` that also takes the end token out of a text: for the model the text would end there."""
        known = type(end) is int and 0 <= end < len(self._words.tokenizer)
        spelled = self._words.tokenizer.convert_ids_to_tokens(end) if known else None
        if not spelled:
            raise WeightsError(f"{self._name}: eos_id is {end!r:.40}, and its tokenizer has no such token")
        return lambda text: clean(text).replace(spelled, " ")

    def _inner(self, text: str) -> list[int]:
        """Return the ids of a text's own tokens.

        One that spells the end token, "<end_of_text>", would end there for the model, and what follows be lost.
        """
        special = (self._words.sot_token_id, self._words.eot_token_id)
        return [token for token in self._words.encode(text) if token not in special]


def _options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config asks of its tokenizer.  Raises WeightsError for what open_clip would pass on."""
    options = config.get("tokenizer_kwargs") or {}
    known = OPTIONS if config.get("hf_tokenizer_name") else OPTIONS[:1]
    wrong = [key for key in options if key not in known] if isinstance(options, dict) else ["it"]
    if wrong or options.get("clean", CLEANING[0]) not in CLEANING:
        raise WeightsError(
            f"{name}: tokenizer_kwargs {options!r:.80} in its config: expected of it {', '.join(known)} alone, with "
            f"clean one of {', '.join(CLEANING)}"
        )
    return options


def _of_files(name: str, folder: Path, most: int, mode: str | None, options: Mapping[str, Any]) -> HFTokenizer:
    """Return a tokenizer of transformers; no code beside it is run."""
    if not any(is_file(folder / file) for file in TOKENIZERS):
        raise WeightsError(
            f"no tokenizer of {name} in {folder}: expected one of {', '.join(TOKENIZERS)}. Download it again"
        )
    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        with warnings.catch_warnings(action="ignore"):  # of a language that it does not have
            words = HFTokenizer(str(folder), context_length=most, tokenizer_mode=mode, **options, **safe)
        if not words.tokenizer.is_fast:
            raise ValueError("it is not a fast one")
        if words(["x", "x " * most]).shape != (2, most):
            raise ValueError("its texts are not all of one length")
    except Exception as error:
        if not isinstance(error, (*states.UNREADABLE, ImportError)) and type(error) is not Exception:
            raise  # tokenizers raises nothing narrower than Exception
        said = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"{folder} does not hold a tokenizer of {name}: {said[:200]}. Download it again") from error
    return words
