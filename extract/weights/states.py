"""Files of encoder weights as tensors by name.  Nothing in them is run, whoever wrote them."""

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import torch

from common.errors import WeightsError

State = dict[str, torch.Tensor]
# what torch and safetensors raise for files that are damaged, or written to mislead
UNREADABLE = (
    RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, AssertionError,
    ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


def read(path: Path, encoder: str) -> State:
    """Return the tensors of a .safetensors file, or of a state dict that torch.save wrote.

    Raises WeightsError, naming the encoder, for anything else: code, a scripted module, other values than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_bomb(path)
        with warnings.catch_warnings(action="ignore"):  # of what else the file may be
            state = torch.load(path, map_location="cpu", weights_only=True)  # unsaid, a variable could turn it off
    except (*UNREADABLE, SafetensorError) as error:
        raise unfit(path, encoder, error) from error
    if isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values()):
        return dict(state)
    raise unfit(path, encoder, "it holds other values than tensors by name")


def fill(model: torch.nn.Module, state: State, path: Path, encoder: str) -> None:
    """Give a model the tensors of a file.  Raises WeightsError if a key is missing, foreign, or of another shape."""
    try:
        model.load_state_dict(state, strict=True)
    except UNREADABLE as error:
        raise unfit(path, encoder, error) from error


def unfit(path: Path, encoder: str, reason: object) -> WeightsError:
    """Return the error of a file that does not hold an encoder's weights."""
    return WeightsError(f"{path} does not hold the weights of {encoder}: {' '.join(str(reason).split())[:200]}")


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError for an archive that unpacks to more than it is: torch packs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed, size = sum(item.file_size for item in archive.infolist()), path.stat().st_size
        if claimed > size:
            raise ValueError(f"it is {size:,} bytes that unpack to {claimed:,}")
