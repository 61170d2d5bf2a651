"""dwe_authors: what was published is DWE's, its options of training are those of the released code."""

from cache.schema import READS
from train.heads.dwe.entry import PUBLISHED
from train.heads.dwe_authors.config import DweAuthorsConfig
from train.heads.entry import Entry

DEFAULTS = {
    "epochs": 300,
    "batch": 128,
    "learning_rate": 5e-5,
    "weight_decay": 1e-3,
    "warm_up": 100,
    "decay": True,
    "clip_norm": 1.0,
}  # for WikiMEL
ON_DATASET = {"wikidiverse": {"epochs": 500, "learning_rate": 5e-6}, "richpedia": {"learning_rate": 5e-4}}
ENTRIES = (
    Entry(
        "dwe_authors",
        DweAuthorsConfig,
        "train.heads.dwe_authors.model:DweAuthors",
        READS["dwe_authors"],
        defaults=DEFAULTS,
        on_dataset=ON_DATASET,
        published=PUBLISHED,
    ),
)
