"""Dense modules of sentence-transformers: linear layers behind the pooling of a text's vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import WeightsError
from common.paths import is_file
from extract.weights import states
from extract.weights.hub_files import read_object
from extract.weights.sources import sha256_file

FILES = ("model.safetensors", "pytorch_model.bin")
# behind torch.nn.modules. in their config.json
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"activation.Tanh": np.tanh, "linear.Identity": np.asarray}
WHERE = ("module_input_name", "module_output_name")  # of the vectors that a module takes and gives
SENTENCE = "sentence_embedding"


@dataclass(frozen=True)
class Dense:
    """`activation`(W x + b): W (D', D), b (D',).  `said` stands in recipes and has the sha256 of the weights."""

    weight: np.ndarray
    bias: np.ndarray
    activation: str
    said: str

    def of(self, vector: np.ndarray) -> np.ndarray:
        """Return what the layer makes of a vector: (D,) -> (D',)."""
        return ACTIVATIONS[self.activation](self.weight @ vector + self.bias)


def read(folder: Path, weights: Path) -> Dense:
    """Return the module of a folder, its weights in another or the same.

    Raises WeightsError for one that does more, or weights that do not fit.
    """
    config = read_object(folder / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    short = activation.removeprefix("torch.nn.modules.")
    if short not in ACTIVATIONS or any(config.get(name, SENTENCE) != SENTENCE for name in WHERE):
        raise WeightsError(
            f"{folder}/config.json asks for {activation!r:.60} of {config.get(WHERE[0], SENTENCE)!r:.40}; melcache "
            f"computes {' and '.join(ACTIVATIONS)} of the text's vector. Take another model"
        )
    path = next((weights / name for name in FILES if is_file(weights / name)), None)
    if path is None:
        raise WeightsError(f"no weights in {weights}: expected {' or '.join(FILES)}. Download the model again")
    weight, bias = _weights(path, config)
    return Dense(weight, bias, short, f"dense {len(weight)} {short} {sha256_file(path)}")


def _weights(path: Path, config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    state, biased = states.read(path, "a Dense module"), config.get("bias", True) is not False
    sizes = (config.get("out_features"), config.get("in_features"))
    shapes = {"linear.weight": sizes} | ({"linear.bias": sizes[:1]} if biased else {})
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != shapes:
        raise states.unfit(path, "a Dense module", f"it has {found}, expected {shapes}")
    weight = state["linear.weight"].to(torch.float32).numpy()
    return weight, state["linear.bias"].to(torch.float32).numpy() if biased else np.zeros(len(weight), np.float32)
