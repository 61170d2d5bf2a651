"""A file with a class Encoder: loaded, identified by its bytes, and asked for arrays that are checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache.fingerprint import canonical, digest
from common import own_file
from common.errors import ConfigError
from extract.encoders.compute import Compute
from extract.weights.sources import Weights, sha256_file

GUIDE = "docs/guides/own-encoder.md"


class EncoderFile:
    """The user's encoder of a role, which `option` names, and what identifies it.  Raises ConfigError."""

    def __init__(self, option: str, path: Path, weights: Weights, compute: Compute, needed: Sequence[str]) -> None:
        if weights.random:
            raise ConfigError(f"{option}-weights {weights.kind}: {path} draws none here. Expected a folder, or none")
        self.option, self.path, self.compute = option, path, compute
        module, code = own_file.load(path, "encoder", option, ("Encoder",), GUIDE)
        kind = module.Encoder
        # one that says nothing of how it is made takes nothing
        self.encoder: Any = kind() if kind.__init__ is object.__init__ else kind(weights.folder, compute.device)
        if missing := [name for name in needed if not self.has(name)]:
            raise ConfigError(f"{path}: Encoder lacks {', '.join(missing)}, which {option} needs; see {GUIDE}")
        self._identity = {"code": code, "weights": _files(weights.folder), "declared": self._declared()}

    def has(self, name: str) -> bool:
        """Whether the encoder has something of a name."""
        return hasattr(self.encoder, name)

    def number(self, name: str) -> int:
        """Return a whole number of the encoder, such as its width.  Raises ConfigError for anything else."""
        value = getattr(self.encoder, name)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self.path}: Encoder.{name} is {value!r:.40}, expected a whole number above 0")
        return value

    def recipe(self, batch: str) -> dict[str, Any]:
        """Return what decides the encoder's numbers: its code, what it declares, and its folder of weights."""
        return {"encoder": "own"} | self._identity | {"compute": self.compute.precision, "batch": batch}

    def tokens_recipe(self) -> dict[str, Any]:
        """Return what decides where its tokens lie."""
        return {"tokenizer": "own"} | self._identity

    def array(self, name: str, shape: tuple[int, ...], *given: Any) -> np.ndarray:
        """Return what a method gives, as float32 of a shape.  Raises ConfigError, naming the file, for other values."""
        return self.checked(self.call(name, *given), name, shape)

    def call(self, name: str, *given: Any) -> Any:
        """Return what a method gives, without gradients and at the precision of the extraction."""
        with torch.inference_mode(), self.compute.autocast():
            return getattr(self.encoder, name)(*given)

    def checked(self, value: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a value as float32 of a shape.  Raises ConfigError, naming the file and the method, for any other."""
        if isinstance(value, torch.Tensor):
            value = value.float().cpu().numpy()
        try:
            found = np.asarray(value, np.float32)
        except (TypeError, ValueError) as error:
            raise self.wrong(name, f"numbers of shape {shape}", f"{value!r:.60}") from error
        if found.shape != shape:
            raise self.wrong(name, f"shape {shape}", f"{found.shape}")
        if not np.isfinite(found).all():
            raise self.wrong(name, "finite numbers", "NaN or infinity")
        return found

    def several(self, value: Any, name: str, count: int) -> Sequence[Any]:
        """Return a tuple or list of a length.  Raises ConfigError, naming file and method, for anything else."""
        if not isinstance(value, list | tuple) or len(value) != count:
            found = f"{len(value)}" if isinstance(value, list | tuple) else f"{value!r:.60}"
            raise self.wrong(name, f"a list or tuple of {count}", found)
        return value

    def wrong(self, name: str, expected: str, found: str) -> ConfigError:
        """Return the error of a method that gave something else than the guide says."""
        return ConfigError(f"{self.path}: Encoder.{name} gave {found}, expected {expected}; see {GUIDE}")

    def _declared(self) -> Any:
        declared = getattr(self.encoder, "recipe", {})
        try:
            canonical(declared)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.path}: Encoder.recipe must hold what JSON has: {error}") from error
        return declared


def _files(folder: Path | None) -> str | None:
    """Return what stands for all files of a folder, by name and content; None without one."""
    if folder is None:
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
