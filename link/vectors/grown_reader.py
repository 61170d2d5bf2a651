"""A cache with entities behind its own that are only in memory."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cache.names import ColumnName
from cache.quantized import Quantized
from cache.reader import Reader


class GrownReader(Reader):
    """What a reader hands out, with `more` rows of entity columns behind its own; entities keep their rows."""

    def __init__(self, reader: Reader, more: Mapping[str, Sequence[np.ndarray]], count: int) -> None:
        vars(self).update(vars(reader))
        self._own, self._more = copy.copy(reader), {name: np.concatenate(rows) for name, rows in more.items()}
        own = reader.manifest.tables["entity"]
        self.manifest = replace(reader.manifest, tables=reader.manifest.tables | {"entity": own + count})

    def column(self, name: str, *, check: bool = True) -> np.ndarray:
        """Return a column (rows, ...), as Reader does."""
        found = self._own.column(name, check=check)
        if name not in self._more:
            return found
        grown = np.concatenate([found, self._more[name]])
        grown.flags.writeable = False
        return grown

    def stored(self, names: Sequence[str], *, check: bool = True) -> dict[str, np.ndarray | Quantized]:
        """Return columns to train on, as Reader does; of entities none is of codes."""
        found = self._own.stored(names, check=check)
        return {
            name: rows if name not in self._more else np.concatenate([rows[:], self._more[name]])
            for name, rows in found.items()
        }

    def pieces(self, name: str, *, check: bool = True) -> list[tuple[int, np.ndarray | Quantized]]:
        """Return a column as maps of its shards, as Reader does."""
        found = self._own.pieces(name, check=check)
        if name not in self._more:
            return found
        return [*found, (self._own.manifest.tables[ColumnName(name).table], self._more[name])]
