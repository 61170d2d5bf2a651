"""How a named text model reads a text: its own tokenizer, prompt and token limit, and where each token stands."""

from typing import Any

from tokenizers import normalizers

from cache.fingerprint import digest
from common.paths import is_file
from extract.encoders.text.model import TextModel
from extract.encoders.text.tokens import Tokens
from extract.weights import hub_models
from extract.weights.hub_files import read_object

BLANK = "\u2581"  # SentencePiece's mark of one
BLANKS = {"blank": "put in front of a text, it stands for no character"}  # as recipes say it
ENDLESS = 1 << 24  # tokens, of a model that sets no limit: transformers says 10^30


class Tokenizer:
    """A model's fast tokenizer.  `most` is the model's limit of tokens, `pad` fills batches; raises WeightsError.

    `opened` says that a special token comes before a text. `recipe` decides which tokens a text has.
    """

    def __init__(self, model: TextModel) -> None:
        found = model.tokenizer()
        self._backend, self._side, self._limit = found.backend_tokenizer, found.truncation_side, 0
        self._lengths: dict[str, int] = {}
        self._folder = model.folder
        self._backend.no_padding()  # files may ask for either
        self._backend.no_truncation()
        path = model.folder / "sentence_bert_config.json"
        own: dict[str, Any] = read_object(path) if is_file(path) else {}
        if own.get("do_lower_case") is True:
            there = [] if self._backend.normalizer is None else [self._backend.normalizer]
            self._backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *there])
        limits = (own.get("max_seq_length"), found.model_max_length, model.positions)
        self.most = min([ENDLESS, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])
        self.pad = next((word for word in (model.config.pad_token_id, found.pad_token_id) if word is not None), 0)
        self._empty = [word for word in (found.eos_token_id, self.pad) if word is not None][:1]
        probe = self._encoded("x")
        self.opened = bool(probe.special_tokens_mask[0])
        self.recipe: dict[str, Any] = {
            "tokenizer": digest(self._backend.to_str()),
            "cut": self._side,
            **BLANKS,
        }

    def _encoded(self, text: str) -> Any:
        """Return what the tokenizer makes of a text.  Raises WeightsError where it makes nothing, as without [UNK]."""
        try:
            return self._backend.encode(text)
        except Exception as error:
            if type(error) is not Exception:  # tokenizers raises nothing narrower
                raise
            raise hub_models.unfit(self._folder, f"a tokenizer that reads {text!r:.40}", error) from error

    def length(self, prompt: str) -> int:
        """Return how many tokens a prompt takes in front of a text, special ones before it included."""
        if not prompt:
            return 0
        if prompt not in self._lengths:
            self._backend.no_truncation()
            self._limit, item = 0, self._encoded(prompt)
            self._lengths[prompt] = len(item.ids) - item.special_tokens_mask[-1]
        return self._lengths[prompt]

    def tokens(self, text: str, limit: int, prompt: str = "") -> Tokens:
        """Return the tokens of a text behind a prompt, cut at `limit`, with the text's own offsets."""
        length = self.length(prompt)
        if (limit := min(limit, self.most)) != self._limit:
            self._backend.enable_truncation(limit, direction=self._side)
            self._limit = limit
        item = self._encoded(prompt + text)
        ids, begin = item.ids or self._empty, len(prompt)
        offsets = [(max(start - begin, 0), max(stop - begin, 0)) for start, stop in item.offsets or [(0, 0)]]
        inside = [
            i for i, special in enumerate(item.special_tokens_mask) if not special and offsets[i][1] > offsets[i][0]
        ]
        inner = (inside[0], inside[-1] + 1) if inside else (0, len(ids))
        if (
            inside
            and item.tokens[inside[0]] == BLANK
            and not (prompt + text)[slice(*item.offsets[inside[0]])].isspace()
        ):
            offsets[inside[0]] = (0, 0)  # put in front of the text; tokenizers says that it is the first character
        return Tokens(ids, offsets, inner, bool(item.overflowing), length)
