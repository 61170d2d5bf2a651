"""The least and the most of a column's values, beside its type: rows that exist, codes, categories, probabilities.

A manifest lists hashes of values, not what they may be; who wrote both, or a bug, may have put anything into them.
"""

import numpy as np

from cache import quantized
from cache.kinds import KINDS
from cache.manifests.entries import Manifest
from cache.names import ColumnName, PartName
from cache.schema import UNLABELED
from common.errors import CacheError


def of(manifest: Manifest, name: str) -> tuple[float, float] | None:
    """Return the bounds of a column (full name) of a cache, None where its type says all."""
    entities, places = manifest.tables["entity"], manifest.candidates
    rows = {
        "mention.ids.gold": (UNLABELED, entities - 1),
        "pair.candidates.candidates": (-1, entities - 1),
        "pair.candidates.gold": (UNLABELED, places - 1),
    }
    part, column = ColumnName(name).apart()
    if manifest.parts[part].columns[column].dtype == "|b1":
        return 0, 1
    return rows.get(name, of_stored(part, column))


def of_stored(part: PartName, column: str) -> tuple[float, float] | None:
    """Return the bounds of a stored column that depend on no cache, None where its type says all."""
    columns = KINDS[part].columns
    return columns[column].values if column in columns else (0, quantized.LARGEST)  # the scales of codes


def check(manifest: Manifest, name: str, values: np.ndarray, where: object, start: int = 0) -> None:
    """Raise CacheError, naming the row, for a value (n, ...) of a column, from row `start` on, that is out of bounds.

    Features are let pass: what is not finite in them is named where it turns up, and nothing acts upon the rest. So
    is NaN, but in the scales of codes.
    """
    limits = of(manifest, name)
    if limits is None or values.dtype == np.float16 or not len(values):
        return
    least, most = limits
    numbers = values.view(np.uint8) if values.dtype == bool else values
    outside = (numbers < least) | (numbers > most)
    if ColumnName(name).column not in KINDS[ColumnName(name).part].columns:
        outside |= np.isnan(numbers)
    if outside.any():
        row, *place = np.argwhere(outside)[0].tolist()
        raise CacheError(
            f"column {name} of {where} holds {numbers[(row, *place)]:g} in row {start + row}, expected {least:g} to "
            f"{most:g}: the program that wrote it was wrong. Extract the cache again, or pull it again"
        )
