"""DWE, what was published of it and of DWE+, and what its ablation leaves out."""

from cache.schema import READS
from train.heads.dwe.config import DweConfig
from train.heads.entry import Ablations, Entry, Row

# selected and ties: its code reports the best epoch on valid, too
PUBLISHED = (
    Row(
        "DWE",
        "b",
        "frozen",
        {
            "wikimel": (44.7, 65.9, 80.8, 93.2),
            "richpedia": (67.6, 97.1, 98.6, 99.5),
            "wikidiverse": (47.5, 81.3, 92.0, 96.9),
        },
        selected="valid",
        ties="optimistic",
    ),
    Row(
        "DWE+",
        "b",
        "frozen",
        {
            "wikimel": (72.8, 97.5, 98.9, 99.7),
            "richpedia": (72.5, 97.3, 98.8, 99.6),
            "wikidiverse": (51.2, 91.0, 96.3, 98.9),
        },
        selected="valid",
        ties="optimistic",
    ),
)
SHORT_TEXT = "without Wikipedia text"
ABLATIONS = Ablations(
    full={"entity_text": "description"},
    variants={
        SHORT_TEXT: {"entity_text": "text"},
        "without alignment loss": {"alignment_weight": 0.0},
        "raw visual features": {"refine": False},
    },
    alone=("full", SHORT_TEXT),
)
ENTRIES = (
    Entry("dwe", DweConfig, "train.heads.dwe.model:Dwe", READS["dwe"], published=PUBLISHED, ablations=ABLATIONS),
)
