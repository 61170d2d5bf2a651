"""A cache's columns as tensors on the device; a batch is a gather by row."""

from functools import cached_property

import torch
from torch import Tensor

from cache import Reader
from cache.schema import EDGES, READS
from common.errors import CacheError
from common.records import SPLITS
from train.batch import Batch


class Table:
    """The columns that a head reads, resident on `device` in their stored type.

    Raises CacheError if a column is missing or an index points outside its table.
    """

    def __init__(self, reader: Reader, head: str, device: torch.device) -> None:
        reader.require(head)
        self.device = device
        self._columns = {name: torch.from_numpy(reader.read(name)).to(device) for name in READS[head]}
        self.candidates = self._columns["pair.candidates.candidates"]
        self.gold = self._columns["pair.candidates.gold"].long()
        self.present = self.candidates >= 0
        self.lexical = self._columns["pair.candidates.lexical"]
        entities, width = reader.manifest["tables"]["entity"], self.candidates.shape[1]
        for name, values, limit in (("candidates", self.candidates, entities), ("gold", self.gold, width)):
            if int(values.min()) < -1 or int(values.max()) >= limit:
                raise CacheError(f"column pair.candidates.{name} of {reader.path} points outside its {limit} rows")

    def rows(self, split: str) -> Tensor:
        """Return the mention rows of a split, (n,) int64 on the device."""
        return (self._columns["mention.ids.splits"] >> SPLITS.index(split) & 1).nonzero()[:, 0]

    def trainable(self, rows: Tensor) -> Tensor:
        """Return those rows that a ranking loss can learn from: gold and at least one other candidate there."""
        return rows[(self.gold[rows] >= 0) & (self.present[rows].sum(1) > 1)]

    @cached_property
    def edges(self) -> Tensor:
        """The four alignments, (N, C, 2, 2) float32."""
        stacked = torch.stack([self._columns[f"pair.alignment.{edge}"] for edge in EDGES], -1)
        return stacked.reshape(*stacked.shape[:2], 2, 2)

    def batch(self, rows: Tensor) -> Batch:
        """Gather the mentions in `rows` (B,); features become float32 after the gather, not before."""
        columns = self._columns
        entities = self.candidates[rows].long()  # -1 gathers the last entity; `present` masks it
        return Batch(
            mention_text=columns["mention.bert.span"][rows].float(),
            mention_image=columns["mention.resnet.image"][rows].float(),
            entity_text=columns["entity.bert.text"][entities].float(),
            entity_image=columns["entity.resnet.image"][entities].float(),
            edges=self.edges[rows],
            present=self.present[rows],
            gold=self.gold[rows],
            mention_image_present=columns["mention.resnet.present"][rows],
            entity_image_present=columns["entity.resnet.present"][entities],
        )
