"""drin_authors: what was published is DRIN's."""

from cache.schema import READS
from train.heads.drin.entry import PUBLISHED
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.entry import Entry

ENTRIES = (
    Entry(
        "drin_authors",
        DrinAuthorsConfig,
        "train.heads.drin_authors.model:DrinAuthors",
        READS["drin_authors"],
        defaults={"restart": 10},
        published=PUBLISHED,
    ),
)
