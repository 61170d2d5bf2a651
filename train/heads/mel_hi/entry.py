"""MEL-HI, and what was published of it."""

from cache.schema import READS
from train.heads.entry import Entry, Row
from train.heads.mel_hi.config import MelHiConfig

PUBLISHED = (
    Row("MEL-HI", "a", "unknown", {"wikimel": (38.6, 55.1, 65.2, 75.7), "wikidiverse": (45.7, 76.5, 88.6)}),
    Row(
        "MEL-HI",
        "b",
        "unknown",
        {
            "wikimel": (38.7, 55.1, 65.2, 75.7),
            "richpedia": (34.9, 43.1, 50.6, 58.4),
            "wikidiverse": (27.1, 60.7, 78.7, 89.2),
        },
    ),
    Row("MEL-HI", "i", "unknown", {"wikimel": (30.86, 47.18), "wikidiverse": (53.88, 69.01)}),
)
ENTRIES = (Entry("mel_hi", MelHiConfig, "train.heads.mel_hi.model:MelHi", READS["mel_hi"], published=PUBLISHED),)
