"""A Hugging Face text model of any family: its config, its tokenizer, and its weights, loaded strictly."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from common.errors import WeightsError
from common.paths import is_file
from extract.encoders.compute import seeded
from extract.weights import hub_files, states

# of config.json: who wrote the file and for what, which changes no number
REMARKS = {
    "_name_or_path", "architectures", "auto_map", "dtype", "finetuning_task", "gradient_checkpointing", "id2label",
    "label2id", "problem_type", "task_specific_params", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "initializer_range": 0.1,
}  # fmt: skip
TINY_HEADS = {"num_key_value_heads": 2, "head_dim": 16}  # of families that have them
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
NEEDED = SIZES[:2]
LARGEST = 1 << 22  # of such a number
TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "sentencepiece.bpe.model", "spiece.model",
    "tokenizer.model",
)  # fmt: skip
FAMILIES = "bert, roberta, xlm-roberta, deberta-v2, modernbert, mpnet, distilbert, nomic_bert, qwen3, mistral"
# families that number positions from behind the word that pads
SHIFTED = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "roberta-prelayernorm")
Told = Mapping[str, Collection[str]]
NOTHING_TOLD: Told = {"missing_keys": (), "unexpected_keys": ()}
_BROKEN = (*states.UNREADABLE, ImportError, StrictDataclassError)


class TextModel:
    """A model as its folder describes it; nothing large is read.  Raises WeightsError, in one line, if it is none."""

    def __init__(self, folder: Path, *, tiny: bool = False) -> None:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

        self.folder = folder
        self.raw = hub_files.read_object(folder / hub_files.CONFIG)
        kind = _family(folder, self.raw)
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
        return {name: value for name, value in self.raw.items() if name not in REMARKS}

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
        try:
            with _quiet():
                found = AutoTokenizer.from_pretrained(
                    self.folder, config=self.config, trust_remote_code=False, local_files_only=True
                )
        except Exception as error:
            if not isinstance(error, _BROKEN) and type(error) is not Exception:  # tokenizers raises nothing narrower
                raise
            raise _unfit(self.folder, "a tokenizer", error) from error
        if not found.is_fast:
            raise WeightsError(
                f"{self.folder} has no fast tokenizer, which alone says where in a text its tokens lie. Expected "
                "tokenizer.json, or files that transformers makes one of"
            )
        return found

    def load(self, *, trained: bool) -> torch.nn.Module:
        """Return the model with its weights, or with random ones.

        A pooler whose weights are not there is left out. Raises WeightsError where others are missing or do not fit.
        """
        state = hub_files.read_state(self.folder, self.kind) if trained else {}
        if trained and self.config.num_hidden_layers > len(state):
            raise _unfit(self.folder, "the weights of its config.json", f"{len(state)} weights for as many layers")
        try:
            with seeded(), _quiet():
                model, told = self._filled(state) if trained else (self._random(), NOTHING_TOLD)
        except _BROKEN as error:
            raise _unfit(self.folder, "the weights of its config.json", error) from error
        missing = {name for name in told["missing_keys"] if not name.startswith("pooler.")}
        inside = {name.split(".")[0] for name, _ in model.named_children()}
        prefix = f"{model.base_model_prefix}."
        foreign = {name for name in told["unexpected_keys"] if name.removeprefix(prefix).split(".")[0] in inside}
        for names, what in ((missing, "lack"), (foreign, "have beyond its config.json")):
            if names:
                raise WeightsError(
                    f"the weights in {self.folder} {what} {len(names)} of {self.made.__name__} "
                    f"({', '.join(sorted(names)[:3])}...). Download the model again"
                )
        if told["missing_keys"]:
            model.pooler = None  # random numbers otherwise
        return model

    def _random(self) -> torch.nn.Module:
        from transformers import AutoModel

        model: torch.nn.Module = AutoModel.from_config(
            self.config, attn_implementation=self.attention, dtype=torch.float32
        )
        return model

    def _filled(self, state: states.State) -> tuple[Any, Told]:
        """Return the model with weights, and by kind the names of those that do not fit."""
        found: tuple[Any, Told] = self.made.from_pretrained(
            None,
            config=self.config,
            state_dict=state,
            dtype=torch.float32,
            output_loading_info=True,
            attn_implementation=self.attention,
        )
        return found


def _family(folder: Path, raw: dict[str, Any]) -> str:
    from transformers import CONFIG_MAPPING, __version__

    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return kind
    if raw.get("auto_map"):
        raise WeightsError(
            f"{folder} needs code of its own (auto_map in config.json), which melcache does not run. Take a model of a "
            f"family that transformers has, such as {FAMILIES}"
        )
    raise WeightsError(
        f"{folder} is of family {kind!r:.40}, which transformers {__version__} does not have. Expected one that it "
        f"has, such as {FAMILIES}"
    )


def _small(kind: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a toy: two small layers of the same class."""
    from transformers import CONFIG_MAPPING

    made: Any = CONFIG_MAPPING[kind]
    usual = made()
    small = TINY | {name: value for name, value in TINY_HEADS.items() if hasattr(usual, name)}
    kept = {name: value for name, value in raw.items() if name != "layer_types"}
    return kept | {made.attribute_map.get(name, name): value for name, value in small.items()}


def _config(folder: Path, kind: str, raw: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    made: Any = CONFIG_MAPPING[kind]
    try:
        config = made.from_dict(raw)
        sizes = {name: getattr(config, name) for name in SIZES if name in NEEDED or hasattr(config, name)}
    except _BROKEN as error:
        raise _unfit(folder, f"a config.json of {kind}", error) from error
    for name, value in sizes.items():
        if type(value) is not int or not 0 < value <= LARGEST:
            raise WeightsError(f"{folder}/config.json: {name} is {value!r:.40}, which no {kind} has. Download it again")
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing: what does not fit is raised."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _unfit(folder: Path, what: str, reason: object) -> WeightsError:
    said = " ".join(str(reason).split()) or type(reason).__name__
    return WeightsError(f"{folder} does not hold {what}: {said[:200]}. Download the model again")
