"""One optimization step of all seeds; on CUDA captured once and replayed."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from train.data.batch import Batch
from train.data.table import Table
from train.optimizing.adam import Adam
from train.optimizing.stacked_seeds import Stack
from train.processes import World

WARM_UP = 3  # steps before a capture, as CUDA graphs ask for


class Step:
    """Gradient step: `step(batch, weight)` -> losses (S,), still on the device.

    `weight` is this process's share of the batch's real mentions: the mean over all of them is the weighted sum.
    """

    def __init__(self, stack: Stack, adam: Adam, world: World, precision: str) -> None:
        self._stack, self._adam, self._world, self._precision = stack, adam, world, precision

    def __call__(self, batch: Batch, weight: float) -> Tensor:
        self._adam.zero_grad()
        with _tf32(self._precision == "tf32"):
            with torch.autocast(batch.gold.device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
                losses = self._stack.losses(batch)
            if self._world.size > 1:
                losses = losses * weight
            losses.sum().backward()
        self._world.add([p.grad for p in self._stack.parameters.values() if p.grad is not None])
        self._adam.step()
        return losses.detach()


@contextlib.contextmanager
def _tf32(wanted: bool) -> Iterator[None]:
    """Let CUDA multiply float32 matrices with 10 bits of mantissa, or with all 23; evaluation outside has all."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class CapturedStep:
    """The same step as one CUDA graph: inputs are copied into fixed memory and the kernels replayed.

    Where the features lie on the device the input is the batch's rows, and the gather is part of the graph. All
    batches must have one shape. 200 kernels cost one launch.
    """

    def __init__(self, step: Step, table: Table, changed: list[Tensor]) -> None:
        self._step, self._table, self._changed = step, table, changed
        self._inputs: tuple[Tensor, ...] = ()

    def __call__(self, given: Tensor | Batch, weight: float) -> Tensor:
        assert weight == 1.0, "one process only"
        new = (given,) if isinstance(given, Tensor) else tuple(given.tensors())
        if not self._inputs:
            self._given = given
            self._capture(new)
        for fixed, value in zip(self._inputs, new, strict=True):
            fixed.copy_(value)
        self._graph.replay()
        return self._losses.clone()

    def _capture(self, first: tuple[Tensor, ...]) -> None:
        """Record the step; what the warm-up changed is put back."""
        self._inputs = tuple(tensor.clone() for tensor in first)
        before = [tensor.detach().clone() for tensor in self._changed]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # a thread may gather meanwhile
            self._losses = self._run()
        with torch.no_grad():
            for tensor, old in zip(self._changed, before, strict=True):
                tensor.copy_(old)

    def _run(self) -> Tensor:
        if isinstance(self._given, Tensor):
            return self._step(self._table.batch(*self._inputs), 1.0)
        return self._step(self._given.like(self._inputs), 1.0)
