"""How a model makes one vector of a text: as its sentence-transformers files say, or as is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.errors import WeightsError
from common.paths import is_file
from extract.weights.hub_files import read_json, read_object

Mode = Literal["cls", "mean", "last"]
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
KNOWN = ("Transformer", "Pooling", "Normalize")  # modules
TINIEST = 1e-12  # length of a vector that is normalized, as torch has it
PASSAGE = ("document", "passage", "corpus")  # names of the prompt of what is searched; the first that is there
QUERY = ("query",)


@dataclass(frozen=True)
class Pooling:
    """The mode, whether the vector is scaled to length 1, and whether the prompt's tokens count in the mean."""

    mode: Mode
    normalized: bool = False
    prompted: bool = True

    def of(self, states: np.ndarray, prompt: int) -> np.ndarray:
        """Return the vector (D,) of a text's last layer (T, D), the first `prompt` tokens of which are the prompt."""
        kept = states if self.prompted or prompt >= len(states) else states[prompt:]
        vector: np.ndarray = {"cls": kept[0], "last": kept[-1]}.get(self.mode, kept.mean(0))
        return vector / max(float(np.linalg.norm(vector)), TINIEST) if self.normalized else vector

    def said(self) -> str:
        """Return it as recipes have it."""
        return ", ".join(
            [self.mode, *(["normalized"] if self.normalized else []), *([] if self.prompted else ["without prompt"])]
        )


def of(folder: Path, asked: str, *, decoder: bool, opened: bool) -> Pooling:
    """Return the pooling of a model: `asked`, or with "auto" what its folder says, else [CLS] for an encoder.

    `opened` says that its texts begin with a special token. Raises WeightsError for what the model lacks.
    """
    modules = _modules(folder)
    config = _pooling_config(folder, modules)
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
    return Pooling(mode, "Normalize" in modules, (config or {}).get("include_prompt", True) is not False)


def _modules(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the modules of modules.json by kind, none where there is no such file."""
    path = folder / "modules.json"
    if not is_file(path):
        return {}
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise WeightsError(f"{path} is not a list of modules. Download the model again")
    modules = {str(module.get("type", "")).rpartition(".")[2]: module for module in found}
    if unknown := [kind for kind in modules if kind not in KNOWN]:
        raise WeightsError(
            f"{path} has a module {unknown[0]!r:.40}; melcache computes {', '.join(KNOWN)} alone. Take another model"
        )
    return modules


def _pooling_config(folder: Path, modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    if "Pooling" not in modules:
        return None
    return read_object(folder / Path(str(modules["Pooling"].get("path", ""))).name / "config.json")


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
