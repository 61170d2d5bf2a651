"""The network of each trained head, and how one is built."""

from typing import Any

from train.heads.base import Head
from train.heads.drin.model import Drin
from train.heads.drin_authors.model import DrinAuthors
from train.heads.dwe.model import Dwe
from train.heads.dwe_authors.model import DweAuthors
from train.heads.dzmned.model import Dzmned
from train.heads.ghmfc.model import Ghmfc
from train.heads.joint.model import Joint
from train.heads.mel_hi.model import MelHi
from train.heads.with_lexical import WithLexical

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


def build(name: str, config: Any, *, with_lexical: bool) -> Head:
    """Return a new head, its weights drawn from torch's generator."""
    head = MODELS[name](config)
    return WithLexical(head) if with_lexical else head
