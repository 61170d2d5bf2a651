"""A Hugging Face text model of any family: its config, its tokenizer, and its weights, loaded strictly."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from common.errors import WeightsError
from common.paths import is_file
from extract.encoders.compute import seeded
from extract.weights import hub_files, hub_models
from extract.weights.hub_files import Place

TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "initializer_range": 0.1,
}  # fmt: skip
TINY_HEADS = {"num_key_value_heads": 2, "head_dim": 16}  # of families that have them
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
NEEDED = SIZES[:2]
LARGEST = 1 << 22  # of such a number
SENTENCEPIECE = ("spm.model", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
READERS = ("sentencepiece", "google.protobuf")  # of such files
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)
FAMILIES = "bert, roberta, xlm-roberta, deberta-v2, modernbert, mpnet, distilbert, nomic_bert, qwen3, mistral"
# families that number positions from behind the word that pads
SHIFTED = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "roberta-prelayernorm")


class TextModel:
    """A model as its folder describes it; nothing large is read.  Raises WeightsError, in one line, if it is none."""

    def __init__(self, place: Place, *, tiny: bool = False) -> None:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

        folder, self._weights = place.folder, place.weights
        self.folder = folder
        self.raw = hub_files.read_object(folder / hub_files.CONFIG)
        kind = hub_models.family(folder, self.raw, FAMILIES)
        if tiny:
            self.raw = _small(kind, self.raw)
        self.config = _config(folder, kind, self.raw)
        causal = type(self.config) in MODEL_FOR_CAUSAL_LM_MAPPING
        masked = type(self.config) in MODEL_FOR_MASKED_LM_MAPPING
        if not (causal or masked) or getattr(self.config, "is_encoder_decoder", False):
            raise WeightsError(
                f"{folder} is a model of family {kind}, which makes no vectors of tokens of a text by itself. Expected "
                f"an encoder or a decoder of text, such as {FAMILIES}"
            )
        self.decoder = causal and not masked
        self.kind, self.config.use_cache = kind, False
        made: Any = MODEL_MAPPING[type(self.config)]
        self.made = made[0] if isinstance(made, tuple) else made
        self.attention = "sdpa" if self.made._supports_sdpa else "eager"

    @property
    def decisive(self) -> dict[str, Any]:
        """What of config.json decides the numbers."""
        return hub_models.decisive(self.raw)

    @property
    def positions(self) -> int | None:
        """The most tokens that the model has positions for, None where it sets no limit."""
        most = getattr(self.config, "max_position_embeddings", None)
        if not isinstance(most, int) or most < 1:
            return None
        padding = self.config.pad_token_id
        return most - (1 if padding is None else padding + 1) if self.kind in SHIFTED else most

    def tokenizer(self) -> Any:
        """Return the model's fast tokenizer.  Raises WeightsError."""
        from transformers import AutoTokenizer

        if not any(is_file(self.folder / name) for name in TOKENIZERS):
            raise WeightsError(
                f"no tokenizer in {self.folder}: expected one of {', '.join(TOKENIZERS)}. Download it again"
            )
        self._refuse_sentencepiece()
        try:
            with hub_models.quiet():
                found = AutoTokenizer.from_pretrained(
                    self.folder, config=self.config, trust_remote_code=False, local_files_only=True
                )
        except Exception as error:
            if (
                not isinstance(error, hub_models.BROKEN) and type(error) is not Exception
            ):  # tokenizers raises nothing narrower
                raise
            raise hub_models.unfit(self.folder, "a tokenizer", error) from error
        if not found.is_fast:
            raise WeightsError(
                f"{self.folder} has no fast tokenizer, which alone says where in a text its tokens lie. Expected "
                "tokenizer.json, or files that transformers makes one of"
            )
        return found

    def _refuse_sentencepiece(self) -> None:
        """Raise WeightsError where a tokenizer is SentencePiece's own file and what reads those is not installed."""
        theirs = [name for name in SENTENCEPIECE if is_file(self.folder / name)]
        needed = [package for package in READERS if not _installed(package)]
        if theirs and needed and not is_file(self.folder / "tokenizer.json"):
            raise WeightsError(
                f"{self.folder} has its tokenizer in {theirs[0]} alone, which transformers reads with sentencepiece "
                "and protobuf: install both (pip install sentencepiece protobuf), or take a folder with tokenizer.json"
            )

    def load(self, *, trained: bool) -> torch.nn.Module:
        """Return the model with its weights, or with random ones.

        A pooler whose weights are not there is left out. Raises WeightsError where others are missing or do not fit.
        """
        with seeded():
            if not trained:
                return hub_models.random(self.made, self.config, self.attention, self.folder)
            return hub_models.filled(self.made, self.config, self.attention, self._weights, "text", spare="pooler")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it lies in is not there
        return False


def _small(kind: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a toy: two small layers of the same class."""
    from transformers import CONFIG_MAPPING

    made: Any = CONFIG_MAPPING[kind]
    usual = made()
    small = TINY | {name: value for name, value in TINY_HEADS.items() if hasattr(usual, name)}
    kept = {name: value for name, value in raw.items() if name != "layer_types"}
    return kept | {made.attribute_map.get(name, name): value for name, value in small.items()}


def _config(folder: Path, kind: str, raw: dict[str, Any]) -> Any:
    config = hub_models.config(folder, kind, raw)
    try:
        sizes = {name: getattr(config, name) for name in SIZES if name in NEEDED or hasattr(config, name)}
    except AttributeError as error:
        raise hub_models.unfit(folder, f"a config.json of {kind}", error) from error
    for name, value in sizes.items():
        if type(value) is not int or not 0 < value <= LARGEST:
            raise WeightsError(f"{folder}/config.json: {name} is {value!r:.40}, which no {kind} has. Download it again")
    return config
