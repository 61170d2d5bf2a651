"""Where each mention's tokens lie in their table."""

from collections.abc import Mapping

import torch
from torch import Tensor

from common.errors import CacheError


class Sequences:
    """Where each mention's tokens lie in their table: the first `length` of them, at least `least` places.

    Raises CacheError if that is outside the table's `count` rows.
    """

    def __init__(
        self, columns: Mapping[str, Tensor], part: str, count: int, limit: int, device: torch.device, least: int = 0
    ) -> None:
        first, counts = (columns[f"{part}.{name}"].cpu().long() for name in ("first", "count"))
        if len(first) and (int(first.min()) < 0 or int(counts.min()) < 1 or int((first + counts).max()) > count):
            raise CacheError(f"part {part} points outside the {count} rows of its table, or to no token")
        self.length = max(least, min(limit, int(counts.max())) if limit else int(counts.max()))
        self._columns = {place.type: (first.to(place), counts.to(place)) for place in (torch.device("cpu"), device)}
        self._steps = {place: torch.arange(self.length, device=place) for place in self._columns}

    def rows(self, mentions: Tensor) -> Tensor:
        """Return the rows of the mentions' tokens, (..., B) -> (..., B, length); past the end the last one's."""
        first, counts = (select_rows(column, mentions)[..., None] for column in self._columns[mentions.device.type])
        return first + torch.minimum(self._steps[mentions.device.type], counts - 1)

    def present(self, mentions: Tensor) -> Tensor:
        """Return which of them are tokens of the sentence, (..., B) -> (..., B, length)."""
        counts = self._columns[mentions.device.type][1]
        return self._steps[mentions.device.type] < select_rows(counts, mentions)[..., None]


def select_rows(column: Tensor, rows: Tensor) -> Tensor:
    """Return column[rows]; index_select copies whole rows, which indexing by more than one axis does not."""
    return column.index_select(0, rows.reshape(-1)).view(*rows.shape, *column.shape[1:])
