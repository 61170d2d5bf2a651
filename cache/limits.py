"""What the values of a column may be, beside its type: codes that exist, categories, probabilities.

A finished shard has the right layout and name; who sent it, or a bug, may have put anything into it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from cache.schema import EDGES, IMAGE_STATUS
from cache.writer import ShardPlan

LABELS = 90  # COCO's categories
PIXELS = 1 << 26  # more than the longest side of a picture that is opened
ROUNDED = 1e-3  # by which a sum of rounded numbers may pass its bound
# least and most by name of a column; of `first` and `count` the manifest tells, of rows of a table who reads them
LIMITS: dict[str, tuple[float, float]] = {
    "image_status": (0, len(IMAGE_STATUS) - 1),
    "splits": (0, 7),
    "boxes": (0, PIXELS),
    "labels": (0, LABELS),
    "scores": (0, 1 + ROUNDED),
    "summary": (-1 - ROUNDED, 1 + ROUNDED),
    "scene_probabilities": (0, 1 + ROUNDED),
    "face_probabilities": (0, 1 + ROUNDED),
    "lexical": (0, 1),
    "lexical_gold": (0, 1),
    **dict.fromkeys(EDGES, (-1 - ROUNDED, 1 + ROUNDED)),
}
Column = Callable[[str], np.ndarray]


def problem(shard: ShardPlan, entry: dict[str, Any], column: Column) -> str:
    """Return which column of a finished shard holds what it cannot, "" if none.

    `entry` is what the manifest would say of it, `column` returns a column by name, (rows, ...).
    """
    for name, (dtype, _) in shard.part.columns.items():
        place, (least, most) = entry["columns"][name], LIMITS.get(name, (-np.inf, np.inf))
        if place["min"] is not None and not (least <= place["min"] and place["max"] <= most):
            return f"{name} holds {place['min']:g} to {place['max']:g}, expected {least:g} to {most:g}"
        if dtype == "|b1" and column(name).view(np.uint8).max() > 1:
            return f"{name} holds what is neither true nor false"
    return ""
