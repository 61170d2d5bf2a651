"""A file with a class Encoder: loaded, identified by its bytes, and asked for arrays that are checked."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache.fingerprint import canonical, digest
from common import own_file
from common.errors import ConfigError
from common.paths import is_file
from extract.encoders.compute import Compute
from extract.weights.sources import Weights, sha256_file

GUIDE = "docs/guides/own-encoder.md"
REAL = "biuf"  # kinds of numpy's types; it makes floats of texts, dates and complex numbers, too
UNFIT = (TypeError, ValueError, ArithmeticError, RuntimeError)  # what making an array of anything raises
LARGEST = np.iinfo(np.int64).max

Shape = tuple[int | None, ...]  # None: any size


class EncoderFile:
    """The user's encoder of a role, which `option` names, and what identifies it.  Raises ConfigError."""

    def __init__(self, option: str, path: Path, weights: Weights, compute: Compute, needed: Sequence[str]) -> None:
        if weights.random:
            raise ConfigError(f"{option}-weights {weights.kind}: {path} draws none here. Expected a folder, or none")
        self.option, self.path, self.compute = option, path, compute
        module, code = own_file.load(path, "encoder", option, ("Encoder",), GUIDE)
        self.encoder: Any = self._made(module.Encoder, weights.folder, compute.device)
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
        method = getattr(self.encoder, name, None)
        if not callable(method):
            raise ConfigError(f"{self.path}: Encoder.{name} is {_shown(method)}, expected a method; see {GUIDE}")
        with torch.inference_mode(), self.compute.autocast(), own_file.not_ended(self.path):
            return method(*given)

    def checked(self, value: Any, name: str, shape: Shape) -> np.ndarray:
        """Return a value as float32 of a shape.  Raises ConfigError, naming the file and the method, for any other."""
        try:
            found = _array(value)
            if found.dtype.kind not in REAL:
                raise TypeError(found.dtype)
            with np.errstate(over="ignore"):  # infinity is found below
                found = found.astype(np.float32)
        except UNFIT as error:
            raise self.wrong(name, f"numbers of shape {shape}", _shown(value)) from error
        if not _fits(found, shape):
            raise self.wrong(name, f"shape {shape}", f"{found.shape}")
        if not np.isfinite(found).all():
            raise self.wrong(name, "finite numbers", "NaN or infinity")
        return found

    def whole(self, value: Any, name: str, shape: Shape) -> np.ndarray:
        """Return a value as int64 of a shape.  Raises ConfigError as `checked` does."""
        try:
            found = _array(value)
        except UNFIT as error:
            raise self.wrong(name, "whole numbers", _shown(value)) from error
        if not _fits(found, shape) or (found.size and (found.dtype.kind not in "iu" or found.max() > LARGEST)):
            raise self.wrong(name, f"whole numbers, {len(shape)} deep", _shown(value))
        return found.astype(np.int64)

    def number_of(self, name: str, usual: float | None) -> float | None:
        """Return a number that the encoder may say, `usual` where it says none.  Raises ConfigError for no number."""
        value = getattr(self.encoder, name, usual)
        if value is None:
            return usual
        try:
            found = float(self.checked(value, name, ()))
        except ConfigError:
            raise ConfigError(f"{self.path}: Encoder.{name} is {_shown(value)}, expected a finite number") from None
        return float(value) if isinstance(value, int | float) else found

    def several(self, value: Any, name: str, count: int) -> Sequence[Any]:
        """Return a tuple or list of a length.  Raises ConfigError, naming file and method, for anything else."""
        if not isinstance(value, list | tuple) or len(value) != count:
            found = f"{len(value)}" if isinstance(value, list | tuple) else _shown(value)
            raise self.wrong(name, f"a list or tuple of {count}", found)
        return value

    def wrong(self, name: str, expected: str, found: str) -> ConfigError:
        """Return the error of a method that gave something else than the guide says."""
        return ConfigError(f"{self.path}: Encoder.{name} gave {found}, expected {expected}; see {GUIDE}")

    def _made(self, kind: Any, *given: Any) -> Any:
        """Return the encoder of a class; one that says nothing of how it is made takes nothing."""
        if not isinstance(kind, type):
            raise ConfigError(f"{self.path}: Encoder is {_shown(kind)}, expected a class; see {GUIDE}")
        if kind.__init__ is object.__init__:
            given = ()
        else:
            try:
                inspect.signature(kind.__init__).bind(None, *given)
            except TypeError as error:
                raise ConfigError(
                    f"{self.path}: Encoder.__init__ takes other arguments than weights and device ({error}); see "
                    f"{GUIDE}"
                ) from error
        with own_file.not_ended(self.path):
            return kind(*given)

    def _declared(self) -> Any:
        declared = getattr(self.encoder, "recipe", {})
        try:
            canonical(declared)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.path}: Encoder.recipe must hold what JSON has: {error}") from error
        return declared


def _array(value: Any) -> np.ndarray:
    """Return a value as an array of its own type.  Raises one of UNFIT."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16
    found: np.ndarray = np.asarray(value)
    return found if found.dtype != object else found.astype(np.float32)  # raises for what is no number


def _fits(found: np.ndarray, shape: Shape) -> bool:
    return found.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))


def _shown(value: Any) -> str:
    """Return a value for a message, in one line."""
    return f"{' '.join(repr(value).split()):.60}"


def _files(folder: Path | None) -> str | None:
    """Return what stands for all files of a folder, by name and content; None without one."""
    if folder is None:
        return None
    files = sorted(path for path in folder.rglob("*") if is_file(path))
    return digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
