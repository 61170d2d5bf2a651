"""Files of encoder weights as tensors by name.  Nothing in them is run, whoever wrote them."""

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import torch

from common import memory
from common.errors import WeightsError
from extract.weights.sources import sha256_file

LARGEST = 4  # times the numbers of its file that a model may have: a file may lack a head or a pooler
FEW = 1 << 28  # bytes of random weights that are made without a look at what is free
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
            state = load_file(path)
        else:
            _refuse_bomb(path)
            with warnings.catch_warnings(action="ignore"):  # of what else the file may be
                state = torch.load(path, map_location="cpu", weights_only=True)  # unsaid, a variable could turn it off
    except (*UNREADABLE, SafetensorError) as error:
        raise unfit(path, encoder, error) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise unfit(path, encoder, "it holds other values than tensors by name")
    if wrong := next((name for name, value in state.items() if value.dtype == torch.int8 or value.is_complex()), None):
        raise unfit(path, encoder, f"{wrong} is of type {state[wrong].dtype}, codes perhaps, of which no weights come")
    return dict(state)


def identity(path: Path, encoder: str) -> str:
    """Return the sha256 of a file of weights, 64 hex digits.

    Raises WeightsError for a .safetensors file of another length than it says, before it is read as a whole.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):
                pass
        except (*UNREADABLE, SafetensorError) as error:
            raise unfit(path, encoder, error) from error
    return sha256_file(path)


def fill(model: torch.nn.Module, state: State, path: Path, encoder: str) -> None:
    """Give a model the tensors of a file.  Raises WeightsError if a key is missing, foreign, or of another shape."""
    try:
        model.load_state_dict(state, strict=True)
    except UNREADABLE as error:
        raise unfit(path, encoder, error) from error


def refuse_larger(described: torch.nn.Module, state: State, path: Path, encoder: str) -> None:
    """Raise WeightsError where a model, on no device, has far more numbers than its file: before memory is taken."""
    made, there = (sum(tensor.numel() for tensor in held) for held in (described.parameters(), state.values()))
    if made > LARGEST * there:
        raise unfit(path, encoder, f"{there:,} numbers where the model has {made:,}")


def refuse_unaffordable(described: torch.nn.Module, encoder: str) -> None:
    """Raise WeightsError where the random weights of a model, on no device yet, need more memory than is free."""
    needed = 4 * sum(tensor.numel() for held in (described.parameters(), described.buffers()) for tensor in held)
    if needed > FEW and needed > (free := memory.free()):
        raise WeightsError(
            f"random weights of {encoder} take {needed:,} bytes, and {free:,} are free. Pass random-tiny in place of "
            "random-full, or take a smaller model"
        )


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
