"""Several processes under torchrun: each takes its share of every batch; only the first one writes and speaks."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import ConfigError
from common.output import be_quiet


def speaks() -> bool:
    """Whether this is the process, of those that torchrun started, that prints."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class World:
    """This process among `size` of them."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of a batch, (..., B) -> (..., B / size); B must be a multiple of `size`."""
        return rows[..., self.rank :: self.size]

    def count(self, rows: int) -> int:
        """Return how many of a batch's first `rows` mentions are in this process's share."""
        return len(range(self.rank, rows, self.size))

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()

    def add(self, tensors: list[Tensor]) -> None:
        """Sum tensors of one type over all processes, in place and in one message."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def join(device: torch.device) -> tuple[World, torch.device]:
    """Meet the other processes if torchrun started this one; return the world and this process's device."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(), device
    if not speaks():
        be_quiet()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise ConfigError(f"torchrun started more processes here than the {torch.cuda.device_count()} CUDA devices")
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(torch.distributed.get_rank(), size), device


def leave() -> None:
    """Part from the other processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
