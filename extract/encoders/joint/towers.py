"""The two towers of an open_clip model: built from its config, filled strictly with its weights, or drawn at random."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from open_clip.hf_configs import arch_dict
from open_clip.model import CLIP, CustomTextCLIP, convert_to_custom_text_state_dict
from transformers import CONFIG_MAPPING

from cache.fingerprint import digest
from common.errors import WeightsError
from extract.encoders.compute import quiet, seeded
from extract.encoders.joint import patches
from extract.encoders.joint.base import Logits
from extract.weights import hub_files, hub_models, states
from extract.weights.open_clip_files import Found

LARGEST = 1 << 22  # of a number in a config
DEEPEST = 1 << 8  # layers
WIDTH = 64  # of a toy
# what of a config changes no vector once weights are there: how training began, what it dropped, what is printed
REMARKS = {
    "vision_cfg": {"timm_model_pretrained", "timm_drop", "timm_drop_path", "patch_dropout", "output_tokens"},
    "text_cfg": {
        "hf_model_name", "hf_model_pretrained", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode",
        "output_tokens",
    },
    "": {"init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"},
}  # fmt: skip
_VISION = {"layers": 2, "width": WIDTH, "head_width": 32}
_TEXT = {"layers": 2, "width": WIDTH, "heads": 2}
# of towers of timm, by what their family calls these; the first that a family takes
_TIMM: tuple[dict[str, Any], ...] = (
    {"embed_dim": WIDTH, "depth": 2, "num_heads": 2},
    {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, WIDTH)},
    {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    {"layers": (1, 1, 1, 1), "embed_dims": (WIDTH,) * 4},
    {"layers": (1, 1, 1, 1, 1), "embed_dims": (WIDTH,) * 5},
    {"depth": 2},
)
# of text towers of transformers, by what their families call these
_HUGGING_FACE = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "d_model": WIDTH, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4,
    "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "initializer_range": 0.1,
}  # fmt: skip
_FAILS = hub_models.BROKEN


class Towers:
    """What a model is, of which nothing large has been read.  Raises WeightsError, in one line, if it is none.

    `text_folder` holds the config of a text tower of transformers; `tiny` makes the same classes small.
    """

    def __init__(self, name: str, found: Found, text_folder: Path | None, *, tiny: bool) -> None:
        self._name, self._path = name, found.weights
        self._config = deepcopy(found.config)
        _check(name, self._config)
        self._text = None if text_folder is None else _text_config(text_folder)
        if tiny:
            self._shrink()
        self.width: int = self._config["embed_dim"]
        self.kind = CustomTextCLIP if self._config.pop("custom_text", False) or self._text is not None else CLIP

    @property
    def decisive(self) -> str:
        """The digest of what of the configs decides the numbers."""
        kept: dict[str, Any] = {
            part: {name: value for name, value in self._config[part].items() if name not in REMARKS[part]}
            for part in ("vision_cfg", "text_cfg")
        }
        whole = {name: value for name, value in self._config.items() if name not in REMARKS[""]} | kept
        return digest([whole, self._text])

    @property
    def libraries(self) -> dict[str, str]:
        """The libraries whose code the towers are, beside open_clip, by name: their versions."""
        found = {"timm": timm.__version__} if self._config["vision_cfg"].get("timm_model_name") else {}
        return found | ({} if self._text is None else {"transformers": transformers.__version__})

    def logits(self) -> Logits:
        """Return scale and bias: of the weights, or what a model begins with.  Raises WeightsError."""
        if self._path is None:
            config = self._config
            begin = {"logit_scale": config.get("init_logit_scale", np.log(1 / 0.07))}
            begin |= {"logit_bias": config.get("init_logit_bias")}
        else:
            begin = _some(self._path, self._name, ("logit_scale", "logit_bias"))
        scale, bias = begin.get("logit_scale"), begin.get("logit_bias")
        try:
            found = Logits(
                float(torch.as_tensor(scale, dtype=torch.float32).exp()),
                None if bias is None else float(torch.as_tensor(bias, dtype=torch.float32)),
            )
        except _FAILS as error:
            raise self._unfit(f"its logits have no scale: {error}") from error
        if not np.isfinite([found.scale, found.bias or 0]).all():
            raise self._unfit(f"its logits have scale {found.scale} and bias {found.bias}")
        return found

    def sizes(self, picture: Sequence[int]) -> dict[str, int]:
        """Return the width of the text tower's states (L), and width (I) and number (G) of a picture's patches.

        Nothing is computed: the image tower sees a picture (H, W) on no device.
        """
        try:
            with torch.device("meta"), torch.inference_mode():
                visual = self._built().visual.eval()
                grid = patches.see(visual, torch.zeros(1, 3, *picture))[1].shape
        except _FAILS as error:
            raise self._unfit(f"its image tower shows no patches: {error}") from error
        width = self._config["text_cfg"].get("width", 512)
        if self._text is not None:
            name = arch_dict[self._text["model_type"]]["config_names"]["width"]
            if (width := self._text.get(name)) is None:
                raise self._unfit(f"config.json of its text tower has no {name}")
        return {"L": width, "I": grid[2], "G": grid[1]}

    def load(self) -> torch.nn.Module:
        """Return the model with its weights, or with random ones.  Raises WeightsError if weights do not fit."""
        state = None if self._path is None else _plain(states.read(self._path, self._name))
        if state is not None and self._path is not None:
            layers = [_layers(self._config[part]) for part in ("vision_cfg", "text_cfg")]
            layers.append(hub_models.layers(self._text))
            if max(layers) > len(state):
                raise self._unfit(f"{len(state)} weights for {layers} layers")
            states.refuse_larger(self._described(), state, self._path, self._name)
        else:
            states.refuse_unaffordable(self._described(), self._name)
        model = self._built().float()  # a config may ask for half
        if state is not None and self._path is not None:
            states.fill(model, _as_named_now(state, model), self._path, self._name)
        return model

    def _described(self) -> torch.nn.Module:
        """Return the model without any numbers in it."""
        with torch.device("meta"):
            return self._built()

    def _built(self) -> torch.nn.Module:
        config = deepcopy(self._config)
        config["vision_cfg"] |= {"timm_model_pretrained": False, "output_tokens": False}
        config["text_cfg"]["output_tokens"] = False
        with seeded(), quiet(), nullcontext() if self._text is None else tempfile.TemporaryDirectory() as folder:
            if self._text is not None:
                (Path(folder) / hub_files.CONFIG).write_text(json.dumps(self._text))
                config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
            try:
                return self.kind(**config)
            except _FAILS as error:
                raise self._unfit(str(error)) from error

    def _shrink(self) -> None:
        vision, text = self._config["vision_cfg"], self._config["text_cfg"]
        self._config["embed_dim"] = WIDTH
        if name := vision.get("timm_model_name"):
            vision["timm_model_name"] = _small_timm(name)
        elif isinstance(vision.get("layers"), list):
            vision |= {"layers": [1, 1, 1, 1], "width": 16}
        else:
            vision |= _VISION
        if self._text is None:
            text |= _TEXT
        else:
            self._text |= _HUGGING_FACE

    def _unfit(self, reason: str) -> WeightsError:
        said = " ".join(reason.split())[:240]
        return WeightsError(f"{self._name} is no model that open_clip can build: {said}. Download it again")


def _check(name: str, config: Mapping[str, Any]) -> None:
    """Raise WeightsError for a config of another kind of model, or with numbers that no model has."""
    for part, tower in (("vision_cfg", "pictures"), ("text_cfg", "texts")):
        if not isinstance(config.get(part), dict):
            raise WeightsError(f"{name} has no tower for {tower} ({part}). Expected a model of texts and pictures")
    if "multimodal_cfg" in config:
        raise WeightsError(f"{name} is a CoCa, which writes captions. Expected a model such as CLIP or SigLIP")
    for part in ("vision_cfg", "text_cfg"):
        _refuse_huge(name, _layers(config[part]), config)
    if type(config.get("embed_dim")) is not int:
        raise WeightsError(f"{name}: embed_dim is {config.get('embed_dim')!r:.40}, expected the width of its vectors")
    model = config["vision_cfg"].get("timm_model_name")
    if model and (not isinstance(model, str) or not timm.is_model(model)):
        raise WeightsError(f"{name}: its pictures are for {model!r:.60}, which timm {timm.__version__} does not have")


def _refuse_huge(name: str, layers: float, config: Mapping[str, Any]) -> None:
    """Raise WeightsError for more layers, or for a larger number, than a model has."""
    for key, value in (("layers", layers), *_numbers(config)):
        if value > (DEEPEST if key == "layers" else LARGEST):
            raise WeightsError(f"{name}: {key} is {f'{value:,}':.40}, which no model has. Download it again")


def _layers(tower: Mapping[str, Any]) -> float:
    """Return how many layers a tower's config says, of all stages where there is a list of them."""
    return sum(count for _, count in _numbers(tower.get("layers", 0)))


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a config with the name that it stands under."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, key)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, (int, float)):
        yield name, value


def _text_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a text tower.  Raises WeightsError for a family that open_clip does not take."""
    raw = hub_files.read_object(folder / hub_files.CONFIG)
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in arch_dict or kind not in CONFIG_MAPPING:
        own = ", and needs code of its own (auto_map), which melcache does not run" if raw.get("auto_map") else ""
        raise WeightsError(
            f"{folder} is of family {kind!r:.40}{own}. Expected one that open_clip takes as a text tower: "
            f"{', '.join(arch_dict)}"
        )
    told = {name: value for name, value in raw.items() if name != "auto_map"}
    _refuse_huge(str(folder / hub_files.CONFIG), hub_models.layers(told), told)
    hub_models.config(folder, kind, told)  # of right types
    return told


def _some(path: Path, name: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Return some tensors of a file by name; of a .safetensors file nothing else is read."""
    if path.suffix != ".safetensors":
        return {key: value for key, value in _plain(states.read(path, name)).items() if key in wanted}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in wanted if key in file.keys()}  # noqa: SIM118 no mapping
    except (*states.UNREADABLE, SafetensorError) as error:
        raise states.unfit(path, name, error) from error


def _plain(state: states.State) -> states.State:
    """Return weights under their own names, without the prefix of distributed training."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _as_named_now(state: states.State, model: torch.nn.Module) -> states.State:
    """Return weights as the library names and shapes them today; none is made up, left out or resized."""
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state = {name: tensor for name, tensor in state.items() if name != "text.transformer.embeddings.position_ids"}
    for name in ("logit_scale", "logit_bias"):
        there = getattr(model, name)
        if name in state and there is not None and state[name].numel() == there.numel():
            state[name] = state[name].reshape(there.shape)  # a number, or one in a list
    return state


def _small_timm(name: str) -> str:
    """Register a small model of the class of one of timm's, and return its name: open_clip passes no sizes on."""
    entry, small = timm.models.model_entrypoint(name), f"{name.partition('.')[0]}_tiny"
    if timm.is_model(small):
        return small

    def build(pretrained: bool = False, **options: Any) -> torch.nn.Module:
        for sizes in _TIMM:
            try:
                model: torch.nn.Module = entry(pretrained=False, **sizes, **options)
                return model
            except (TypeError, ValueError, AssertionError):
                continue  # another family
        raise WeightsError(f"no small model of {name} is known. Take random-full")

    build.__name__ = small
    timm.models.register_model(build)
    return small
