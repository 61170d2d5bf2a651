"""DZMNED, and what was published of it."""

from cache.schema import READS
from train.heads.dzmned.config import DzmnedConfig
from train.heads.entry import Entry, Row

PUBLISHED = (
    Row("DZMNED", "a", "unknown", {"wikimel": (34.7, 53.9, 58.1, 70.1)}),
    Row("DZMNED", "b", "unknown", {"wikimel": (30.9, 50.7, 56.9, 65.1), "richpedia": (29.5, 41.6, 45.8, 55.2)}),
    Row(
        "DZMNED",
        "d",
        "unknown",
        {
            "wikimel": (78.82, 90.02, 92.62, 84.97),
            "richpedia": (68.16, 82.94, 87.33, 76.63),
            "wikidiverse": (56.9, 75.34, 81.41, 67.59),
        },
    ),
    Row("DZMNED", "i", "unknown", {"wikimel": (39.41, 52.13), "wikidiverse": (29.11, 49.53)}),
)
ENTRIES = (Entry("dzmned", DzmnedConfig, "train.heads.dzmned.model:Dzmned", READS["dzmned"], published=PUBLISHED),)
