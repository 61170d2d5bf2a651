"""The least and the most of a column's values, beside its type: rows that exist, codes, categories, probabilities.

A manifest lists hashes of values, not what they may be; who wrote both, or a bug, may have put anything into them.
"""

from typing import Any

import numpy as np

from cache.names import ColumnName
from cache.schema import EDGES, IMAGE_STATUS, UNLABELED
from common.errors import CacheError

LABELS = 90  # COCO's categories
PIXELS = 1 << 26  # more than the longest side of a picture that is opened
ROUNDED = 1e-3  # by which a sum of rounded numbers may pass its bound
# by name of a column
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


def of(manifest: dict[str, Any], name: str) -> tuple[float, float] | None:
    """Return the bounds of a column (full name) of a cache, None where its type says all."""
    entities, places = manifest["tables"]["entity"], manifest["candidates"]
    rows = {
        "mention.ids.gold": (UNLABELED, entities - 1),
        "pair.candidates.candidates": (-1, entities - 1),
        "pair.candidates.gold": (UNLABELED, places - 1),
    }
    part, column = ColumnName(name).apart()
    if manifest["parts"][part]["columns"][column]["dtype"] == "|b1":
        return 0, 1
    return rows.get(name, LIMITS.get(column))


def check(manifest: dict[str, Any], name: str, values: np.ndarray, where: object, start: int = 0) -> None:
    """Raise CacheError, naming the row, for a value (n, ...) of a column, from row `start` on, that is out of bounds.

    Features are let pass: what is not finite in them is named where it turns up, and nothing acts upon the rest. So
    is NaN.
    """
    limits = of(manifest, name)
    if limits is None or values.dtype == np.float16 or not len(values):
        return
    least, most = limits
    numbers = values.view(np.uint8) if values.dtype == bool else values
    outside = (numbers < least) | (numbers > most)
    if outside.any():
        row, *place = np.argwhere(outside)[0].tolist()
        raise CacheError(
            f"column {name} of {where} holds {numbers[(row, *place)]:g} in row {start + row}, expected {least:g} to "
            f"{most:g}: what wrote it was wrong. Extract the cache again, or take it afresh"
        )
