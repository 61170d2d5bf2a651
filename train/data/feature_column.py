"""One feature column where it lies while training: on the device, in host memory, or mapped from its shards."""

import math
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from common import devices
from common.errors import ConfigError
from common.output import size
from train.data.resident import Resident

SHARE = 0.6  # of the free memory that tables may take; the rest is for batches, gradients and the system


class Feature:
    """Rows (n, ..., W) of a column in their stored type; rows whose picture is missing read 0.

    `pieces` are (first row, rows) in order; `absent` (n,) marks those. On the device there is one, and it is ours.
    """

    def __init__(
        self, pieces: list[tuple[int, np.ndarray]], absent: np.ndarray | None, resident: str, device: torch.device
    ) -> None:
        self._pieces, self._absent, self._device = pieces, absent, device
        self._shape, self._dtype = pieces[0][1].shape[1:], torch.from_numpy(pieces[0][1][:0].copy()).dtype
        self.numbers, self.count = math.prod(self._shape), sum(len(rows) for _, rows in pieces)
        if resident == "device":
            rows = pieces[0][1]
            if absent is not None:
                rows[absent] = 0
            self._pieces, self._rows = [], torch.from_numpy(rows).to(device)

    def take(self, rows: Tensor) -> Tensor:
        """Return those rows, (..., ..., W), in the stored type: `rows` (...) int64 where the column lies."""
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
