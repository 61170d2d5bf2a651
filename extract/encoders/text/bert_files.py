"""Where `bert-base-cased` lies, its config, vocabulary and weights: of these files only numbers and words are read."""

import json
from pathlib import Path
from typing import Any

import torch

from common.errors import WeightsError
from common.output import loading
from common.paths import is_file, is_special
from extract.encoders.compute import seeded
from extract.weights import states
from extract.weights.sources import Wanted, reachable

REPOSITORY = "google-bert/bert-base-cased"
MODEL = Wanted("bert-base-cased", ("model.safetensors", "pytorch_model.bin"), f"https://huggingface.co/{REPOSITORY}")
FILES = ["config.json", "model.safetensors", "vocab.txt"]
POSITION_GAIN = 0.1  # of untrained weights, whose positions would otherwise drown the words
# of config.json: what changes the numbers, and not only who wrote the file; with BertConfig's own values
DECISIVE: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2,
    "vocab_size": 30522,
}  # fmt: skip
LARGEST = 1 << 20  # of such a number
SPECIAL = ("[CLS]", "[SEP]", "[UNK]")  # words without which no text can be encoded


def load(path: Path | None, config: dict[str, Any]) -> torch.nn.Module:
    """Return the model of a weights file and `config_of` it; without a file an untrained one.

    Raises WeightsError, before anything large is made, for a file that lacks a weight or is of other sizes.
    """
    with loading("transformers"):
        from transformers import BertConfig, BertModel  # 12-18 s: only when there is something to encode

    if path is None:
        with seeded():
            model = BertModel(BertConfig(vocab_size=28996, **config))
        model.embeddings.position_embeddings.weight.data.mul_(POSITION_GAIN)
        return model
    state = {_own_name(name): tensor for name, tensor in states.read(path, "BERT").items()}
    wanted = DECISIVE | config
    _refuse_other_sizes(path, wanted, state)
    try:
        with seeded():
            model = BertModel(BertConfig(**wanted | {"layer_norm_eps": float(wanted["layer_norm_eps"])}))
    except states.UNREADABLE as error:  # sizes that do not fit each other
        raise states.unfit(path, "the BERT of its config.json", error) from error
    own = model.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong:
        raise WeightsError(
            f"{path} lacks {len(wrong)} of BertModel's weights ({', '.join(wrong[:3])}...), which would stay random "
            "numbers. Download bert-base-cased again"
        )
    states.fill(model, {name: state[name] for name in own}, path, "BERT")  # what else is there are heads behind it
    return model


def _own_name(name: str) -> str:
    """Return how BertModel calls a weight, which older files call otherwise."""
    name, dot, last = name.removeprefix("bert.").rpartition(".")
    return name + dot + {"gamma": "weight", "beta": "bias"}.get(last, last)


def _refuse_other_sizes(path: Path, wanted: dict[str, Any], state: states.State) -> None:
    """Raise WeightsError unless a file holds as much as its config says, before so much is made."""
    layers = sum(name.endswith(".intermediate.dense.weight") for name in state)
    words = tuple(state.get("embeddings.word_embeddings.weight", torch.empty(0)).shape)
    if layers != wanted["num_hidden_layers"] or words != (wanted["vocab_size"], wanted["hidden_size"]):
        raise WeightsError(
            f"{path} does not hold the BERT of its config.json: it has {layers} layers and word vectors {words}, "
            f"expected {wanted['num_hidden_layers']} and {wanted['vocab_size'], wanted['hidden_size']}. "
            "Download bert-base-cased again"
        )


def vocabulary(folder: Path) -> dict[str, int]:
    """Return the number of each word, from vocab.txt, else tokenizer.json, in a folder.  Raises WeightsError."""
    words: Any = None
    if is_file(folder / "vocab.txt"):
        lines = _text(folder / "vocab.txt").removesuffix("\n").split("\n")
        words = {word: i for i, word in enumerate(lines)}  # splitlines() would also break at U+2028 and U+0085
    elif is_file(folder / "tokenizer.json"):
        model = _read(folder / "tokenizer.json").get("model")
        words = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(words, dict):
        raise WeightsError(
            f"no vocab.txt or tokenizer.json beside the weights in {folder}; both are part of {REPOSITORY}"
        )
    if any(type(i) is not int or not 0 <= i <= LARGEST for i in words.values()) or not words.keys() >= set(SPECIAL):
        raise WeightsError(
            f"the vocabulary in {folder} is not a BERT's: expected words by number, {', '.join(SPECIAL)} among them. "
            f"It is part of {REPOSITORY}"
        )
    return words


def config_of(path: Path) -> dict[str, Any]:
    """Return what of a config.json decides the numbers (DECISIVE).  Raises WeightsError for what no BERT has."""
    found = _read(path)
    config = {name: found[name] for name in DECISIVE if name in found}
    for name, value in config.items():
        kinds = (float, int) if name == "layer_norm_eps" else (type(DECISIVE[name]),)
        if type(value) not in kinds or (not isinstance(value, str) and not 0 < value <= LARGEST):
            raise WeightsError(f"{path}: {name} is {value!r:.40}, which no BERT has. It is part of {REPOSITORY}")
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {error}. It is part of {REPOSITORY}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"cannot read {path}: it is not a JSON object. It is part of {REPOSITORY}")
    return found


def _text(path: Path) -> str:
    if is_special(path):
        raise WeightsError(f"cannot read {path}: not a regular file. It is part of {REPOSITORY}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {path}: {error}. It is part of {REPOSITORY}") from error


def download() -> Path:
    """Return the weights file in the Hub's own cache, fetching it and what belongs to it if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(REPOSITORY, allow_patterns=FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        folder = Path()
    if not all(is_file(folder / name) for name in FILES):
        reachable("huggingface.co")
        folder = Path(snapshot_download(REPOSITORY, allow_patterns=FILES))
    return folder / "model.safetensors"
