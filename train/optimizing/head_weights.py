"""Type and shape of the weights that a head has, before any file of them is trusted."""

from typing import Any

import torch

from train.heads.models import build
from train.heads.registry import HEADS
from train.optimizing import checkpoint
from train.run_folder.run_files import Layout


def weights_of(name: str, config: Any, *, with_lexical: bool) -> Layout:
    """Return type and shape of each weight of a head, which is not built for it unless it is one of somebody's own."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if name in HEADS else "cpu"):
        return checkpoint.layout_of(dict(build(name, config, with_lexical=with_lexical).named_parameters()))
