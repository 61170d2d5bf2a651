"""GHMFC, and what was published of it."""

from cache.schema import READS
from train.heads.entry import Entry, Row
from train.heads.ghmfc.config import GhmfcConfig

PUBLISHED = (
    Row("GHMFC", "a", "unknown", {"wikimel": (43.6, 64.0, 74.4, 85.8), "wikidiverse": (46.0, 77.5, 88.9)}),
    Row("GHMFC", "b", "unknown", {"wikimel": (43.6, 64.0, 74.4, 85.8), "richpedia": (38.7, 50.9, 58.5, 66.7)}),
    Row(
        "GHMFC",
        "d",
        "unknown",
        {
            "wikimel": (76.55, 88.4, 92.01, 83.36),
            "richpedia": (72.92, 86.85, 90.6, 80.76),
            "wikidiverse": (60.27, 79.4, 84.74, 70.99),
        },
    ),
    Row("GHMFC", "i", "unknown", {"wikimel": (56.69, 70.45), "wikidiverse": (55.71, 70.31)}),
)
ENTRIES = (Entry("ghmfc", GhmfcConfig, "train.heads.ghmfc.model:Ghmfc", READS["ghmfc"], published=PUBLISHED),)
