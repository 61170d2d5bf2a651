"""How encoders compute: device, precision, and random weights that stay finite."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch

from extract.config.knobs import BY_THEMSELVES
from extract.encoders import packed_linear
from extract.weights.sources import RESIDUAL_GAIN, SEED

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Compute:
    """Device and precision of every encoder; `precision` is "fp32", "bf16" or "fp16", `workers` are threads beside.

    `pixels` says where the papers' encoders make pictures as large as they read them, "host" or "device".
    """

    device: torch.device
    precision: str
    workers: int = 1
    pixels: str = "host"

    @classmethod
    def choose(cls, device: torch.device, precision: str, workers: int = 1, pixels: str = "host") -> "Compute":
        """Resolve "auto": fp16 on CUDA (features are stored as float16), fp32 elsewhere."""
        if precision == "auto":
            precision = BY_THEMSELVES[device.type != "cpu"].precision
        return cls(device, precision, workers, pixels)

    @property
    def on_device(self) -> bool:
        """Whether the device makes pictures as large as they are read."""
        return self.pixels == "device"

    @property
    def resized_as(self) -> str:
        """How recipes call what pictures are resized on."""
        return "floats, clamped, by the device" if self.on_device else "uint8"

    @property
    def ahead(self) -> int:
        """How many batches the device is given before the numbers of one are read: it has one while another is read."""
        return 0 if self.device.type == "cpu" else 1

    def each(self, make: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return what threads make of items, in their order."""
        return list(self._threads.map(make, items)) if self.workers > 1 else [make(item) for item in items]

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the autocast context; for fp32 one in which a GPU's convolutions are of float32, too, and not TF32."""
        if self.precision == "fp32":
            return contextlib.nullcontext() if self.device.type == "cpu" else _without_tf32()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model on the device, frozen and in evaluation mode; on a GPU channels lie last."""
        model = model.eval().requires_grad_(False).to(self.device)
        return model if self.device.type == "cpu" else model.to(memory_format=torch.channels_last)

    def place_packed(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the placed model, on a CPU with its linear layers as oneDNN packs them: same to rounding, faster."""
        model = self.place(model)
        if self.device.type == "cpu" and self.precision == "fp32" and packed_linear.there():
            packed_linear.pack(model)
        return model

    @property
    def tokens(self) -> int:
        """How many tokens a text encoder reads at once where nothing else is said."""
        return BY_THEMSELVES[self.device.type != "cpu"].text_tokens


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32  # on by default, unlike that of products
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def seeded():
    """Draw random weights reproducibly without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


@contextlib.contextmanager
def quiet():
    """Keep libraries from logging and warning, as of weights that are not filled: what does not fit is raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def tame(model: torch.nn.Module) -> torch.nn.Module:
    """Scale each residual branch's last norm of an untrained network, so that depth does not overflow."""
    for module in model.modules():
        last = getattr(module, "bn3", None) or (getattr(module, "bn2", None) if not hasattr(module, "conv3") else None)
        if last is not None and hasattr(module, "downsample"):
            last.weight.data.mul_(RESIDUAL_GAIN)
    return model
