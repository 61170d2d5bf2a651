"""One feature column where it lies while training: on the device, in host memory, or mapped from its shards.

Vectors that are stored as codes lie there as codes and scales; they become vectors in a batch, on the device.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from cache.quantized import Quantized
from common import devices
from common.errors import ConfigError
from common.output import size
from train.data.resident import Resident

SHARE = 0.6  # of the free memory that tables may take; the rest is for batches, gradients and the system


class Feature:
    """Rows (n, ..., W) of a column; rows whose picture is missing read 0.

    `pieces` are (first row, rows) in order; `absent` (n,) marks those. On the device there is one, and it is ours.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[int, np.ndarray | Quantized]],
        absent: np.ndarray | None,
        resident: str,
        device: torch.device,
    ) -> None:
        shape = pieces[0][1].shape[1:]
        self.numbers, self.count = math.prod(shape), sum(len(rows) for _, rows in pieces)
        self._width = shape[-1] if shape else 1
        self._stored = [Rows(stored, absent, resident, device) for stored in _apart(pieces)]

    def take(self, rows: Tensor) -> "Gathered":
        """Return those rows, (..., ..., W), as they are stored: `rows` (...) int64 where the column lies."""
        return Gathered([stored.take(rows) for stored in self._stored], self._width)


class Gathered:
    """Some rows of a column as they are stored: numbers, or codes and scales of vectors `width` wide."""

    def __init__(self, stored: list[Tensor], width: int) -> None:
        self._stored, self._width = stored, width

    def to(self, device: torch.device) -> "Gathered":
        """Return them on a device; from pinned memory nothing waits for it."""
        return Gathered([stored.to(device, non_blocking=True) for stored in self._stored], self._width)

    def values(self) -> Tensor:
        """Return them in the stored type, codes as the float32 vectors that cache.quantized.decode gives."""
        if len(self._stored) == 1:
            return self._stored[0]
        codes, scales = self._stored
        if codes.dtype == torch.uint8:
            pairs = codes.view(torch.int8)
            codes = torch.cat((pairs << 4 >> 4, pairs >> 4), -1)[..., : self._width]
        return codes.float().mul_(scales[..., None])


class Rows:
    """Rows (n, ...) of a stored column in their type, as Feature says."""

    def __init__(
        self, pieces: list[tuple[int, np.ndarray]], absent: np.ndarray | None, resident: str, device: torch.device
    ) -> None:
        self._pieces, self._absent, self._device = pieces, absent, device
        self._shape, self._dtype = pieces[0][1].shape[1:], torch.from_numpy(pieces[0][1][:0].copy()).dtype
        if resident == "device":
            rows = pieces[0][1]
            if absent is not None:
                rows[absent] = 0
            self._pieces, self._rows = [], torch.from_numpy(rows).to(device)

    def take(self, rows: Tensor) -> Tensor:
        """Return those rows, (..., ...)."""
        flat = rows.reshape(-1)
        if not self._pieces:
            return self._rows.index_select(0, flat).view((*rows.shape, *self._shape))
        wanted = flat.numpy()
        found = torch.empty(len(flat), *self._shape, dtype=self._dtype, pin_memory=self._device.type == "cuda")
        target = found.numpy()
        if len(self._pieces) == 1:
            np.take(self._pieces[0][1], wanted, axis=0, out=target, mode="clip")
        else:
            starts = np.array([start for start, _ in self._pieces])
            owners = np.searchsorted(starts, wanted, side="right") - 1
            for owner in np.unique(owners):
                inside = np.flatnonzero(owners == owner)
                target[inside] = self._pieces[owner][1][wanted[inside] - starts[owner]]
        if self._absent is not None:
            target[self._absent[wanted]] = 0
        return found.view((*rows.shape, *self._shape))


def _apart(pieces: Sequence[tuple[int, Any]]) -> list[list[tuple[int, np.ndarray]]]:
    """Return the pieces of each stored column: of numbers, or of codes and of their scales."""
    if not isinstance(pieces[0][1], Quantized):
        return [list(pieces)]
    return [[(start, rows.codes) for start, rows in pieces], [(start, rows.scales) for start, rows in pieces]]


def choose(resident: Resident, needed: int, device: torch.device) -> str:
    """Return where `needed` bytes of features go: the first of device, host, mmap in which they fit.

    Raises ConfigError if one was asked for and is too small.
    """
    free = {"device": devices.free_memory(device), "host": devices.free_memory(torch.device("cpu"))}
    if resident == "auto":
        fitting = [place for place, left in free.items() if needed <= SHARE * left]
        return (*fitting, "mmap")[0]
    if resident not in get_args(Resident):
        raise ConfigError(f"--resident {resident}: choose from {', '.join(get_args(Resident))}")
    if needed > free.get(resident, needed):
        raise ConfigError(
            f"--resident {resident} needs {size(needed)}, but only {size(free[resident])} are free. "
            "Use --resident mmap, which reads rows from the shards as they are needed"
        )
    return resident
