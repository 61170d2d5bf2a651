"""DRIN, what was published of it and of what is left without its parts, and what it costs."""

from cache.edges import EDGES
from cache.schema import READS
from train.heads.drin.config import DrinConfig
from train.heads.entry import Ablations, Entry, Estimate, Row, Values

LAYERED = {f"layers {layers}": layers for layers in (1, 2, 3, 4, 5)}
PUBLISHED = (
    Row(
        "DRIN",
        "a",
        "frozen",
        {"wikimel": (65.5, 91.3, 95.8, 97.7), "wikidiverse": (51.1, 77.9, 89.3)},
        deviations={"wikimel": (0.81, 0.52, 0.22, 0.14), "wikidiverse": (0.74, 0.65, 0.83)},
    ),
    Row("DRIN", "i", "frozen", {"wikimel": (66.05, 80.84), "wikidiverse": (49.43, 57.21)}),
)
# Table 3, test
WITHOUT: dict[str, Values] = {
    "full": {"wikimel": (65.5, 91.3, 95.8, 97.7), "wikidiverse": (51.1, 77.9, 89.3)},
    "without image_to_image": {"wikimel": (65.2, 91.4, 95.8, 97.9), "wikidiverse": (49.1, 76.8, 89.1)},
    "without image_to_text": {"wikimel": (64.0, 90.1, 95.4, 97.9), "wikidiverse": (49.1, 77.1, 87.7)},
    "without text_to_image": {"wikimel": (64.4, 90.3, 95.5, 98.0), "wikidiverse": (49.3, 77.4, 87.5)},
    "without text_to_text": {"wikimel": (61.2, 88.8, 94.4, 97.8), "wikidiverse": (48.6, 75.3, 87.3)},
    "static edges": {"wikimel": (57.8, 86.1, 92.3, 95.5), "wikidiverse": (49.0, 77.4, 88.6)},
}
# Table 4, test and valid: the first three k
TEST: dict[str, Values] = {
    "layers 1": {"wikimel": (64.0, 90.0, 95.3), "wikidiverse": (48.8, 78.0, 89.1)},
    "layers 2": {"wikimel": (65.5, 91.3, 95.8), "wikidiverse": (51.1, 77.9, 89.3)},
    "layers 3": {"wikimel": (64.1, 90.3, 95.5), "wikidiverse": (47.2, 74.5, 87.2)},
    "layers 4": {"wikimel": (63.1, 90.4, 95.5), "wikidiverse": (47.2, 76.4, 86.6)},
    "layers 5": {"wikimel": (62.9, 89.6, 94.5), "wikidiverse": (45.4, 75.9, 86.7)},
}
VALID: dict[str, Values] = {
    "layers 1": {"wikimel": (64.7, 90.0, 95.3), "wikidiverse": (47.8, 76.4, 87.6)},
    "layers 2": {"wikimel": (65.5, 91.3, 95.8), "wikidiverse": (48.5, 77.3, 87.8)},
    "layers 3": {"wikimel": (65.8, 90.7, 95.4), "wikidiverse": (45.5, 75.1, 86.8)},
    "layers 4": {"wikimel": (65.5, 90.6, 95.5), "wikidiverse": (45.9, 75.7, 87.9)},
    "layers 5": {"wikimel": (63.6, 89.3, 94.6), "wikidiverse": (43.9, 72.3, 86.2)},
}


def _rows(tables: dict[str, Values]) -> dict[str, Row]:
    return {variant: Row("DRIN", "c", "frozen", values) for variant, values in tables.items()}


def _operations(head: DrinConfig, candidates: int) -> int:
    return 12 * head.layers * candidates * head.width**2


ABLATIONS = Ablations(
    full={},
    variants={
        **{f"without {gone}": {"edges": tuple(edge for edge in EDGES if edge != gone)} for gone in EDGES[::-1]},
        "static edges": {"static": True},
        **{name: {"layers": layers} for name, layers in LAYERED.items()},
    },
    test=_rows(WITHOUT | TEST),
    valid=_rows(VALID),
    layered=tuple(LAYERED),
)

ENTRIES = (
    Entry(
        "drin",
        DrinConfig,
        "train.heads.drin.model:Drin",
        READS["drin"],
        published=PUBLISHED,
        ablations=ABLATIONS,
        estimate=Estimate("DRIN 5.5 estimates 12 L r d^2", _operations),
    ),
)
