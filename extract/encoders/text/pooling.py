"""How a model makes one vector of a text: as its sentence-transformers files say, or as is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.errors import WeightsError
from common.paths import is_file
from extract.encoders.text import dense
from extract.encoders.text.dense import Dense
from extract.weights.hub_files import Place, read_json, read_object

Mode = Literal["cls", "mean", "last"]
Modules = list[tuple[str, Path]]
# sentence-transformers' names, until 5 and since 6
MODES: dict[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last",
    "last": "last",
}
KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")  # modules, in this order
TINIEST = 1e-12  # length of a vector that is normalized, as torch has it
PASSAGE = ("document", "passage", "corpus")  # names of the prompt of what is searched; the first that is there
QUERY = ("query",)


@dataclass(frozen=True)
class Pooling:
    """The mode, whether the vector is scaled to length 1, and whether the prompt's tokens count in the mean.

    `layers` come between the mode and the scaling.
    """

    mode: Mode
    normalized: bool = False
    prompted: bool = True
    layers: tuple[Dense, ...] = ()

    def of(self, states: np.ndarray, prompt: int) -> np.ndarray:
        """Return the vector (D,) of a text's last layer (T, D), the first `prompt` tokens of which are the prompt.

        Without the prompt is the mean alone: [CLS] stands before it and is the text's still.
        """
        kept = states if self.prompted or prompt >= len(states) else states[prompt:]
        vector: np.ndarray = {"cls": states[0], "last": states[-1]}.get(self.mode, kept.mean(0))
        for layer in self.layers:
            vector = layer.of(vector)
        return vector / max(float(np.linalg.norm(vector)), TINIEST) if self.normalized else vector

    def said(self) -> str:
        """Return it as recipes have it."""
        layers = [layer.said for layer in self.layers]
        normalized = ["normalized"] if self.normalized else []
        return ", ".join([self.mode, *layers, *normalized, *([] if self.prompted else ["without prompt"])])


def of(place: Place, asked: str, width: int, *, decoder: bool, opened: bool) -> Pooling:
    """Return the pooling of a model: `asked`, or with "auto" what its folder says, else [CLS] for an encoder.

    `width` (D) is the model's. `opened` says that its texts begin with a special token. Raises WeightsError for what
    the model lacks.
    """
    folder, modules = place.folder, _modules(place.folder)
    config = _pooling_config(modules)
    if asked != "auto":
        mode = MODES[asked]
    elif config is not None:
        mode = _mode(config, folder)
    elif not decoder:
        mode = "cls"
    else:
        raise WeightsError(
            f"{folder} is a decoder that does not say how it makes one vector of a text (no modules.json of "
            "sentence-transformers): pass --text-pooling last or mean"
        )
    if mode == "cls" and (decoder or not opened):
        raise WeightsError(
            f"{folder} has no [CLS]: {'a decoder' if decoder else 'its tokenizer'} puts no token in front that has "
            "seen the text. Pass --text-pooling last or mean"
        )
    prompted = (config or {}).get("include_prompt", True) is not False
    return Pooling(mode, any(kind == "Normalize" for kind, _ in modules), prompted, _layers(modules, width, place))


def _layers(modules: Modules, width: int, place: Place) -> tuple[Dense, ...]:
    """Return the Dense modules.  Raises WeightsError where they do not follow each other, from D numbers to D."""
    layers = tuple(dense.read(path, place.weights / path.name) for kind, path in modules if kind == "Dense")
    widths = [width, *(size for layer in layers for size in layer.weight.shape[::-1]), width]
    if any(before != after for before, after in zip(widths[::2], widths[1::2], strict=True)):
        raise WeightsError(
            f"{place.folder} makes {widths[-2]} numbers of a text and {width} of a token, by layers of {widths[1:-1]}; "
            "a cache has one width of both. Take another model"
        )
    return layers


def _modules(folder: Path) -> Modules:
    """Return kind and folder of the modules of modules.json in order, none where there is no such file."""
    path = folder / "modules.json"
    if not is_file(path):
        return []
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise WeightsError(f"{path} is not a list of modules. Download the model again")
    modules = [
        (str(module.get("type", "")).rpartition(".")[2], folder / Path(str(module.get("path", ""))).name)
        for module in found
    ]
    if unknown := [kind for kind, _ in modules if kind not in KNOWN]:
        raise WeightsError(
            f"{path} has a module {unknown[0]!r:.40}; melcache computes {', '.join(KNOWN)} alone. Take another model"
        )
    order = [KNOWN.index(kind) for kind, _ in modules]
    if order != sorted(order):
        raise WeightsError(
            f"{path} has its modules in the order {', '.join(kind for kind, _ in modules)}; melcache computes them in "
            f"the order {', '.join(KNOWN)}. Take another model"
        )
    return modules


def _pooling_config(modules: Modules) -> dict[str, Any] | None:
    place = next((path for kind, path in modules if kind == "Pooling"), None)
    return None if place is None else read_object(place / "config.json")


def _mode(config: Mapping[str, Any], folder: Path) -> Mode:
    given = config.get("pooling_mode")
    old = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    asked = old if given is None else given if isinstance(given, list) else [given]
    if len(asked) != 1 or str(asked[0]) not in MODES:
        raise WeightsError(
            f"{folder} pools by {' and '.join(map(str, asked)) or 'nothing'}; melcache does one of cls, mean and last "
            "token. Pass --text-pooling"
        )
    return MODES[str(asked[0])]


def prompt(folder: Path, names: tuple[str, ...]) -> str:
    """Return the prompt that a model says it wants before texts of a side, "" for none."""
    path = folder / "config_sentence_transformers.json"
    if not is_file(path):
        return ""
    config = read_object(path)
    prompts = config.get("prompts")
    known = prompts if isinstance(prompts, dict) else {}
    found = next((known[name] for name in (*names, config.get("default_prompt_name")) if name in known), "")
    return found if isinstance(found, str) else ""
