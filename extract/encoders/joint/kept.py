"""What a module inside another gives while that runs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[list[Any]]:
    """Yield a list that gets the outputs of a module while it runs inside another."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
