"""Count what a training step dispatches: kernels, views (which launch nothing), and waits for the device."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "item"}
EMPTY = {
    "_unsafe_view",
    "promote_types",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "lift_fresh",
}


class Count(TorchDispatchMode):
    """Within it, every operator is counted: `kernels` and `views` by name, `waits` for those that a host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.views: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        aliases = [result.alias_info for result in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        copies_across = name in ("_to_copy", "copy_") and _crosses(args, kwargs or {})
        if name in WAITS or (copies_across and not (kwargs or {}).get("non_blocking")):
            self.waits[name] += 1
        (self.views if view or name in EMPTY else self.kernels)[name] += 1
        return func(*args, **(kwargs or {}))


def _crosses(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a copy goes from one device to another.  Of a number that vmap makes a tensor there is none."""
    if not isinstance(args[0], torch.Tensor):
        return False
    here = args[0].device.type
    there = args[1].device if len(args) > 1 and isinstance(args[1], torch.Tensor) else kwargs.get("device")
    return there is not None and torch.device(there).type != here
