"""Heads by name: their order, their options and their presets.  No torch here.

`tokens` bounds the sequences that a head reads, `characters` the strings that it reads as bytes; `more` names the
columns of schema.CHOICES that its switches ask for.
"""

from train.heads.drin.config import DrinConfig
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.dwe.config import DweConfig
from train.heads.dwe_authors.config import DweAuthorsConfig
from train.heads.dzmned.config import DzmnedConfig
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.joint.config import JointConfig
from train.heads.mel_hi.config import MelHiConfig

HEADS = (
    "lexical",
    "prior",
    "clip",
    "bert",
    "jmel",
    "clip_linear",
    "dzmned",
    "mel_hi",
    "ghmfc",
    "dwe",
    "dwe_authors",
    "drin",
    "drin_authors",
)
# of a head that says nothing else (DRIN 4.4)
OPTIMIZATION = {
    "epochs": 30,
    "batch": 64,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warm_up": 0,
    "decay": False,
    "clip_norm": 0.0,
    "restart": 0,
}
# what the authors' code does instead: dwe_authors for WikiMEL
PRESETS = {
    "drin_authors": {"restart": 10},
    "dwe_authors": {
        "epochs": 300,
        "batch": 128,
        "learning_rate": 5e-5,
        "weight_decay": 1e-3,
        "warm_up": 100,
        "decay": True,
        "clip_norm": 1.0,
    },
}
# and for a cache of this name
PRESETS_OF = {
    ("dwe_authors", "wikidiverse"): {"epochs": 500, "learning_rate": 5e-6},
    ("dwe_authors", "richpedia"): {"learning_rate": 5e-4},
}


HEAD_CONFIGS = {
    "drin": DrinConfig,
    "bert": JointConfig,
    "jmel": JointConfig,
    "clip_linear": JointConfig,
    "dwe": DweConfig,
    "dwe_authors": DweAuthorsConfig,
    "dzmned": DzmnedConfig,
    "mel_hi": MelHiConfig,
    "drin_authors": DrinAuthorsConfig,
    "ghmfc": GhmfcConfig,
}
CONFIG_CLASSES = tuple(dict.fromkeys(HEAD_CONFIGS.values()))
