"""Between host and device: one copy there, one back, and no wait for it before the numbers are read."""

import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch

Numbers = torch.Tensor | np.ndarray
Fetched = Callable[[], list[np.ndarray]]


def send(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Return n arrays of one type and any shapes on the device, copied there at once: views of one buffer."""
    sizes = [array.size for array in arrays]
    buffer = _host(sum(sizes), _dtype(arrays[0]), device)
    flat = buffer.numpy()
    for array, end in zip(arrays, np.cumsum(sizes), strict=True):
        flat[end - array.size : end] = array.reshape(-1)
    pieces = buffer.to(device, non_blocking=True).split(sizes)
    return [piece.view(array.shape) for piece, array in zip(pieces, arrays, strict=True)]


def send_stacked(arrays: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """Return n arrays of one type and shape on the device, copied there at once: (n, ...)."""
    first = arrays[0]
    buffer = _host(first.size * len(arrays), _dtype(first), device).view(len(arrays), *first.shape)
    np.stack(arrays, out=buffer.numpy())
    return buffer.to(device, non_blocking=True)


def fetch(*given: Numbers) -> Fetched:
    """Begin to copy tensors to the host at once; the function that is returned waits for them: float32 arrays.

    What is on the host already stays as it is.
    """
    there = [values for values in given if isinstance(values, torch.Tensor)]
    if not there or there[0].device.type == "cpu":
        here = [values.float().numpy() if isinstance(values, torch.Tensor) else values for values in given]
        return lambda: here
    flat = torch.cat([values.float().reshape(-1) for values in there]) if len(there) > 1 else there[0].float()
    host = _host(flat.numel(), torch.float32, flat.device).view(flat.shape)
    host.copy_(flat, non_blocking=True)
    return _awaited(host.view(-1), [values.shape for values in there], mark(flat.device))


def mark(device: torch.device) -> Callable[[], None]:
    """Return the function that waits until a GPU has done what it was asked for until now.

    It is that of the tensors, which need not be the current one: that is another in each thread.
    """
    wait: Callable[[], None] = torch.cuda.current_stream(device).record_event().synchronize
    return wait


def stamp(device: torch.device) -> Callable[[], float]:
    """Return the function that says when the device had done what it was asked for until now, once it has.

    In seconds of time.monotonic.
    """
    if device.type == "cpu":
        now = time.monotonic()
        return lambda: now
    zero, since = _zero(device)
    event = _timed(device)

    def when() -> float:
        event.synchronize()  # the last copy's end stands just before it, and times of what goes on are refused
        return since + zero.elapsed_time(event) / 1e3

    return when


@cache
def _zero(device: torch.device) -> tuple[torch.cuda.Event, float]:
    """Return a point of the device's time and when it was."""
    torch.cuda.synchronize(device)
    event = _timed(device)
    event.synchronize()
    return event, time.monotonic()


def _timed(device: torch.device) -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.current_stream(device).record_event(torch.cuda.Event(enable_timing=True))
    return event


def _awaited(host: torch.Tensor, shapes: list[torch.Size], wait: Callable[[], None]) -> Fetched:
    def fetched() -> list[np.ndarray]:
        wait()
        pieces = host.split([shape.numel() for shape in shapes])
        return [piece.view(shape).numpy() for piece, shape in zip(pieces, shapes, strict=True)]

    return fetched


def _host(numbers: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return memory of the host, from which a device that is not the host copies without making it wait."""
    return torch.empty(numbers, dtype=dtype, pin_memory=device.type != "cpu")


def _dtype(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
