"""The network of each trained head, and how one is built."""

from typing import Any

import torch

from train import checkpoint
from train.heads.base import Head
from train.heads.drin.model import Drin
from train.heads.drin_authors.model import DrinAuthors
from train.heads.dwe.model import Dwe
from train.heads.dwe_authors.model import DweAuthors
from train.heads.dzmned.model import Dzmned
from train.heads.ghmfc.model import Ghmfc
from train.heads.joint.model import Joint
from train.heads.mel_hi.model import MelHi
from train.heads.registry import HEADS
from train.heads.with_lexical import WithLexical
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
