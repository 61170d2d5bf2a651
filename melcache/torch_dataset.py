"""The mentions of a split as a torch Dataset, for a training loop of one's own."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cache import Reader
from cache.names import ColumnName
from common.errors import ConfigError
from common.records import SPLITS, split_mask
from common.words import one_of
from train.data.features.feature_column import Feature

LISTS, GOLD = "pair.candidates.candidates", "pair.candidates.gold"
TAKEN = ("mention", "entity", "pair")


class Mentions(Dataset[dict[str, Tensor]]):
    """Mentions of a split (train, valid or test; None: all) with some columns of the cache, read as they are asked for.

    An item has of a mention column its row (...), of an entity column the rows of the candidates (C, ...), 0 for
    padding, of a pair column its row (C, ...), all of the type that Reader.dtype says under their full names; and
    "present" (C,) bool, which candidates are real, "candidates" (C,) their rows in the entity table, -1 = padding, and
    "gold" (), the position of gold, -1 = not there, -2 = not labeled. Every byte is checked once, here. Raises
    ConfigError for a split or table that is none, and for columns of text, which `Reader.strings` returns;
    CacheError as `Reader.column`.
    """

    __module__ = "melcache"  # what pickle imports for a worker: there a train.py of the user's is out of the way

    def __init__(self, reader: Reader, split: str | None = "train", columns: Sequence[str] = ()) -> None:
        if split is not None and split not in SPLITS:
            raise ConfigError(f"Mentions: {split!r} is no split, expected one of: {one_of(split, SPLITS)}")
        for name in map(ColumnName, columns):
            if name.table not in TAKEN:
                raise ConfigError(f"Mentions: {name!r} is of the table {name.table!r}, not of {', '.join(TAKEN)}")
            if reader.dtype(name).kind == "S":
                raise ConfigError(f"Mentions: {name!r} is text, not numbers: Reader.strings returns it")
        splits = np.array(reader.column("mention.ids.splits"))
        self.rows = np.flatnonzero(splits & split_mask(split)) if split else np.arange(len(splits))
        self._lists, self._gold = (torch.from_numpy(reader.read(name)).long() for name in (LISTS, GOLD))
        self._columns = {name: Feature(reader.pieces(name), None, "mmap", torch.device("cpu")) for name in columns}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = torch.tensor(int(self.rows[index]))
        candidates = self._lists[row]
        present = candidates >= 0
        item = {"candidates": candidates, "present": present, "gold": self._gold[row]}
        for name, column in self._columns.items():
            if ColumnName(name).table == "entity":
                item[name] = column.take(candidates.clamp(min=0)).values()
                item[name][~present] = 0
            else:
                item[name] = column.take(row).values()
        return item
