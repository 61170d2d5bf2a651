"""Where one training step goes: counted operations and bytes, and a table of operators."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.measuring.kernels import EMPTY
from bench.training.worker import BATCH, melcache_step, steps
from train.data.table import Table

OPERATORS = 12


class Bytes(TorchDispatchMode):
    """Within it, `total` sums the bytes of all tensors that kernels read and write; views count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        aliases = [result.alias_info for result in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases) and not _empty(func):
            arguments = zip(func._schema.arguments, args, strict=False)
            written = [value for given, value in arguments if given.alias_info and given.alias_info.is_write]
            self.total += _size(args) + _size(written) + (0 if any(aliases) else _size((found,)))
        return found


def count(table: Table, kind: str) -> dict[str, float]:
    """Return the floating-point operations of matrix products, and bytes moved, of one step of float32."""
    step, rows = steps(kind, table, "float32"), table.rows("train")[:BATCH][None]
    step(rows)
    with FlopCounterMode(display=False) as operations:
        step(rows)
    with Bytes() as moved:
        step(rows)
    return {"flops": float(operations.get_total_flops()), "bytes": float(moved.total)}


def operators(table: Table) -> list[tuple[str, int, float]]:
    """Return the operators of one step that take longest by themselves: name, calls, milliseconds."""
    step, rows = melcache_step(table, (0,), "float32"), table.rows("train")[:BATCH]
    for _ in range(3):
        step(rows)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step(rows)
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rest = events[OPERATORS:]
    shown = [(event.key, event.count, event.self_cpu_time_total / 1e3) for event in events[:OPERATORS]]
    return [*shown, ("everything else", sum(e.count for e in rest), sum(e.self_cpu_time_total for e in rest) / 1e3)]


def _empty(func: Any) -> bool:
    return func._schema.name.removeprefix("aten::") in EMPTY


def _size(values: Any) -> int:
    """Return the bytes of all tensors in nested lists and tuples."""
    if isinstance(values, torch.Tensor):
        return values.numel() * values.element_size()
    return sum(map(_size, values)) if isinstance(values, (list, tuple)) else 0
