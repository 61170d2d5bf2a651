"""lexical, prior and clip."""

from cache.schema import READS
from train.heads.entry import Entry, Row

# CLIP's accuracy among all entities grows with the share of train in MIMIC's tables: it was trained there
CLIP = (
    Row(
        "CLIP",
        "b",
        "unknown",
        {
            "wikimel": (36.1, 81.3, 92.8, 98.3),
            "richpedia": (60.4, 96.1, 98.3, 99.2),
            "wikidiverse": (42.4, 80.5, 91.7, 96.6),
        },
    ),
    Row(
        "CLIP",
        "d",
        "tuned",
        {
            "wikimel": (83.23, 92.10, 94.51, 88.23),
            "richpedia": (67.78, 85.22, 90.04, 77.57),
            "wikidiverse": (61.21, 79.63, 85.18, 71.69),
        },
    ),
    Row("CLIP", "i", "unknown", {"wikimel": (81.53, 87.89), "wikidiverse": (61.12, 75.61)}),
)
ENTRIES = (
    Entry("lexical", None, "", READS["lexical"], needs=("test",)),
    Entry("prior", None, "", READS["prior"], needs=("train", "test")),
    Entry("clip", None, "", READS["clip"], needs=("test",), published=CLIP),
)
