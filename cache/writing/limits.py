"""What is wrong with the values of a finished shard of the right layout and name: cache.kinds says what may be."""

from collections.abc import Callable

import numpy as np

from cache import bounds
from cache.manifests.entries import ShardEntry
from cache.writing.writer import ShardPlan

Column = Callable[[str], np.ndarray]


def problem(shard: ShardPlan, entry: ShardEntry, column: Column) -> str:
    """Return which column of a finished shard holds what it cannot, "" if none.

    `entry` is what the manifest would say of it, `column` returns a column by name, (rows, ...).
    """
    for name, (dtype, _) in shard.part.stored.items():
        place, (least, most) = entry.columns[name], bounds.of_stored(shard.part.name, name) or (-np.inf, np.inf)
        if place.min is not None and place.max is not None and not (least <= place.min and place.max <= most):
            return f"{name} holds {place.min:g} to {place.max:g}, expected {least:g} to {most:g}"
        if dtype == "|b1" and column(name).view(np.uint8).max() > 1:
            return f"{name} holds what is neither true nor false"
    return ""
