"""Count what crosses between host and device, and for what the host waits: on a CPU, by a stand-in for the device.

Tensors on the stand-in say that they are on a device of that name, as those on a GPU do, and hold a tensor of the host
that computes; operators of the stand-in and of the host do not mix but where torch lets a number of the host take part.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from extract.encoders import transfer

NAME = "standin"
# what a host waits for, beside copies: how many numbers come out, or a number itself
WAITS = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "nms",
}  # fmt: skip
COPIES = {"to", "_to_copy", "copy_"}


class StandIn(backend_registration._DummyBackendModule):
    """What torch asks of a device; its random numbers are the host's, so that it has no state to keep."""

    def get_rng_state(self, device: int) -> torch.Tensor:
        """Return an empty state."""
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: int) -> None:
        """Keep nothing."""


class OnDevice(torch.Tensor):
    """A tensor on the stand-in, and what it `held` on the host."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        """Return the stand-in's tensor of a tensor of the host."""
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=NAME
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the stand-in outside of what counts")


class Crossings(TorchDispatchMode):
    """Within it there is the stand-in, and what crosses is counted.

    `sent` and `fetched` are copies to the device and back, `sent_bytes` and `fetched_bytes` what they move, `waits` how
    often the host waits: a copy waits unless it is of pinned memory and says non_blocking; `pinned` counts such memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self._pinned: dict[int, torch.Tensor] = {}  # by address

    def clear(self) -> None:
        """Count anew from here."""
        self.sent = self.fetched = self.sent_bytes = self.fetched_bytes = self.waits = self.pinned = 0

    def counts(self) -> dict[str, int]:
        """Return what was counted."""
        return {"sent": self.sent, "fetched": self.fetched, "waits": self.waits}

    def __enter__(self) -> "Crossings":
        device()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) then comes by here
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._mark, transfer.mark = transfer.mark, self._waited
        found: Crossings = super().__enter__()
        return found

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        transfer.mark = self._mark
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name.partition("::")[2]
        there = any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs)))
        asked = next((leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)), None)
        onto = there if asked is None else asked.type == NAME
        if name in COPIES:
            onto = self._copied(name, args, kwargs, onto)
        elif name in WAITS or (name in ("index", "index_put", "index_put_") and _masked(args)):
            self.waits += there
        pinned = kwargs.pop("pin_memory", False)
        found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if pinned:
            self.pinned += 1
            self._pinned[_place(found)] = found
        written = func._schema.arguments[0].alias_info if func._schema.arguments else None
        if written is not None and written.is_write:  # in place
            return args[0]
        return tree_map(lambda leaf: OnDevice(leaf) if onto and isinstance(leaf, torch.Tensor) else leaf, found)

    def _waited(self, device: torch.device) -> Callable[[], None]:
        """Stand for transfer.mark."""

        def wait() -> None:
            self.waits += 1

        return wait

    def _copied(self, name: str, args: Any, kwargs: dict[str, Any], onto: bool) -> bool:
        """Count a copy if it crosses; return whether its result is on the stand-in."""
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], None)
        if target is not None:
            onto = isinstance(target, OnDevice)
        if onto == isinstance(source, OnDevice) or not isinstance(source, torch.Tensor):
            return onto
        size = source.numel() * source.element_size()
        if onto:
            self.sent, self.sent_bytes = self.sent + 1, self.sent_bytes + size
        else:
            self.fetched, self.fetched_bytes = self.fetched + 1, self.fetched_bytes + size
        said = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        host = source if onto else target
        self.waits += not (said and _place(host) in self._pinned)
        return onto


def device() -> torch.device:
    """Return the stand-in; torch knows it from then on."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        backend_registration._setup_privateuseone_for_python_backend(NAME, StandIn())
    return torch.device(NAME)


def _place(host: torch.Tensor) -> int:
    return host.untyped_storage().data_ptr()


def _held(value: Any) -> Any:
    """Return what computes in place of a tensor, or of the name of its device."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, OnDevice) else value


def _masked(args: Any) -> bool:
    """Whether an index is a mask, of which torch must know how much is true."""
    return any(isinstance(leaf, torch.Tensor) and leaf.dtype is torch.bool for leaf in tree_leaves(args[1]))
