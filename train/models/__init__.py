"""Heads by name, and how one is built."""

from typing import Any

import torch

from train import checkpoint
from train.config import HEADS
from train.models.drin import Drin
from train.models.drin_authors import DrinAuthors
from train.models.dwe import Dwe
from train.models.dwe_authors import DweAuthors
from train.models.dzmned import Dzmned
from train.models.ghmfc import Ghmfc
from train.models.head import Head
from train.models.joint import Joint
from train.models.lexical import WithLexical
from train.models.mel_hi import MelHi
from train.run_files import Layout

MODELS: dict[str, type[Head]] = {
    "drin": Drin,
    "bert": Joint,
    "jmel": Joint,
    "clip_linear": Joint,
    "dwe": Dwe,
    "dwe_authors": DweAuthors,
    "dzmned": Dzmned,
    "mel_hi": MelHi,
    "ghmfc": Ghmfc,
    "drin_authors": DrinAuthors,
}


def layout_of(name: str, config: Any, *, with_lexical: bool) -> Layout:
    """Return type and shape of each weight of a head, which is not built for it unless it is one of somebody's own."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if name in HEADS else "cpu"):
        return checkpoint.layout_of(dict(build(name, config, with_lexical=with_lexical).named_parameters()))


def build(name: str, config: Any, *, with_lexical: bool) -> Head:
    """Return a new head, its weights drawn from torch's generator."""
    head = MODELS[name](config)
    return WithLexical(head) if with_lexical else head
