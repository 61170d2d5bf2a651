"""bert, jmel and clip_linear, and what was published of bert and jmel."""

from cache.schema import READS
from train.heads.entry import Entry, Row
from train.heads.joint.config import JointConfig

NETWORK = "train.heads.joint.model:Joint"
BERT = (
    Row("BERT", "a", "unknown", {"wikimel": (31.7, 48.8, 57.8, 70.3), "wikidiverse": (45.5, 75.7, 89.0)}),
    Row(
        "BERT",
        "b",
        "unknown",
        {
            "wikimel": (31.7, 48.8, 57.8, 70.3),
            "richpedia": (31.6, 42.0, 47.6, 57.3),
            "wikidiverse": (22.2, 53.8, 69.8, 82.8),
        },
    ),
    Row(
        "BERT",
        "d",
        "unknown",
        {
            "wikimel": (74.82, 86.79, 90.47, 81.78),
            "richpedia": (59.55, 81.12, 87.16, 71.67),
            "wikidiverse": (55.77, 75.73, 83.11, 67.38),
        },
    ),
    Row("BERT", "i", "unknown", {"wikimel": (39.95, 54.07), "wikidiverse": (57.08, 72.03)}),
)
JMEL = (
    Row("JMEL", "a", "unknown", {"wikimel": (31.3, 49.4, 57.9, 64.8)}),
    Row(
        "JMEL",
        "b",
        "unknown",
        {
            "wikimel": (31.3, 49.4, 57.9, 64.8),
            "richpedia": (29.6, 42.3, 46.6, 54.1),
            "wikidiverse": (21.9, 54.5, 69.9, 76.3),
        },
    ),
    Row(
        "JMEL",
        "d",
        "unknown",
        {
            "wikimel": (64.65, 79.99, 84.34, 73.39),
            "richpedia": (48.82, 66.77, 73.99, 60.06),
            "wikidiverse": (37.38, 54.23, 61.0, 48.19),
        },
    ),
    Row("JMEL", "i", "unknown", {"wikimel": (47.99, 62.42), "wikidiverse": (51.55, 67.15)}),
)
ENTRIES = (
    Entry("bert", JointConfig, NETWORK, READS["bert"], published=BERT),
    Entry("jmel", JointConfig, NETWORK, READS["jmel"], published=JMEL),
    Entry("clip_linear", JointConfig, NETWORK, READS["clip_linear"]),
)
