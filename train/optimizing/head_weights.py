"""Type and shape of the weights that a head has, before any file of them is trusted."""

import torch

from train.heads.head_config import HeadConfig
from train.heads.models import build
from train.heads.registry import HEADS
from train.optimizing import checkpoint
from train.run_folder.run_files import Layout


def weights_of(name: str, config: HeadConfig, *, with_lexical: bool, objective: str = "own") -> Layout:
    """Return type and shape of each weight of a head, which is not built for it unless it is one of somebody's own."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if HEADS[name].file is None else "cpu"):
        head = build(name, config, with_lexical=with_lexical, objective=objective)
    return checkpoint.layout_of(dict(head.named_parameters()))
