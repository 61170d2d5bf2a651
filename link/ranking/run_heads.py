"""What a run's heads give of mentions that stand in a table: scores of lists, or the best of all entities."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cache.fingerprint import checksum
from cache.names import ColumnName
from cache.reader import Reader
from common import devices
from extract.reading.string_columns import stored
from link.ranking import entity_search
from link.ranking.entity_search import EntitySearch
from train.data.table import Table
from train.evaluating import best_entities, ranking, untrained_heads, whole_kb
from train.evaluating.ranking import SHARE, TOGETHER, Split
from train.evaluating.whole_kb import Towers
from train.judging import stored_scores
from train.judging.scoring import Heads, mean_towers
from train.processes import World
from train.run import code_of

SURFACE = "mention.ids.surface"


class RunHeads:
    """The heads of a run's seeds, whose mean counts, and what of all entities depends on no mention.

    `model` is the head's name; `among_all` says that all entities are ranked, not lists.
    """

    def __init__(self, heads: Heads, reader: Reader, model: str, *, among_all: bool) -> None:
        self._model, self._table, self._among_all = model, heads.table, among_all
        self._networks = [head.model.to(heads.table.device) for head in heads.trained]
        self._options = [str(head.config) for head in heads.trained]
        self._entities = torch.arange(heads.table.entity_count)
        self._strings = _places(reader.column(SURFACE)) if model == "prior" else {}
        self._projected: list[Tensor | None] = []
        self._known: Tensor | None = None
        self._search: EntitySearch | None = None
        if among_all and model != "prior":
            self._prepare(reader)
        elif not among_all and heads.table.entity_count < entity_search.FEWEST:
            with torch.no_grad():
                self._projected = [ranking.project(head, self._table, self._entities) for head in self._networks]

    def _prepare(self, reader: Reader) -> None:
        """Make ready what of all entities depends on no mention: their vectors, or of many the codes of these."""
        towers, table = self._towers(self._table)[0], self._table
        if table.device.type != "cpu" or towers.pairs is not None or table.entity_count < entity_search.FEWEST:
            room = int(SHARE * devices.free_memory(table.device))
            self._known = whole_kb.with_entities(towers, table, room).known
            return
        weights = [[name, _sum(value)] for head in self._networks for name, value in head.state_dict().items()]
        columns = [name for name in table.sizes() if ColumnName(name).table == "entity"]
        told = [self._model, code_of(self._model), self._options, weights]
        place = entity_search.kept(reader, columns, told)
        self._search = EntitySearch(towers, table, place)

    def lists(self, table: Table, surfaces: Sequence[str]) -> np.ndarray:
        """Return the scores of the lists of a table of n mentions, float32 (n, C), whatever of padding."""
        rows = torch.arange(len(surfaces))
        if self._networks:
            split = Split(table, rows, self._entities, table.candidates.clamp(min=0).long())
            if not self._projected:
                split = _of_listed(ranking.split_among(table, rows))
            each = zip(self._networks, self._projected or [None] * len(self._networks), strict=True)
            return stored_scores.mean([ranking.scores(head, split, found).cpu().numpy() for head, found in each])
        if self._model == "prior":
            listed = table.candidates.clamp(min=0).long()
            found = untrained_heads.meant(self._table, self._asked(surfaces), listed)
        else:
            found = untrained_heads.BASELINES[self._model](table, rows)
        return found.float().cpu().numpy()

    def best(self, table: Table, surfaces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the best of all entities for each of n mentions and their scores, (n, KEPT): see best_entities."""
        if self._model == "prior":
            entities, scores = untrained_heads.best_meant(self._table, self._asked(surfaces))
            return entities.cpu().numpy(), scores.cpu().numpy()
        towers, factor = self._towers(table)
        rows = torch.arange(len(surfaces))
        if self._search is not None:
            entities, scores = self._search.best(towers, table, rows)
        else:
            entities, scores = best_entities.best(towers, table, rows, World())
        return entities.cpu().numpy(), (scores * factor).cpu().numpy()

    def given(self, table: Table, surfaces: Sequence[str], entities: np.ndarray) -> np.ndarray:
        """Return the scores by which all entities are ranked, of given ones (n, k), -1 = padding: float64 (n, k)."""
        asked = torch.from_numpy(entities.astype(np.int64)).clamp(min=0)
        if self._model == "prior":
            listed = asked.to(self._table.device)
            return untrained_heads.meant(self._table, self._asked(surfaces), listed).double().cpu().numpy()
        towers, factor = self._towers(table)
        scores = whole_kb.scores_of(towers, table, torch.arange(len(asked)), asked)
        return (scores * factor).cpu().numpy()

    def _towers(self, table: Table) -> tuple[Towers, float]:
        """Return towers of the mentions of a table, and by what their scores are to be multiplied."""
        towers, factor = (
            mean_towers(self._networks, table) if self._networks else (untrained_heads.towers_of_clip(table), 1.0)
        )
        return replace(towers, known=self._known), factor

    def _asked(self, surfaces: Sequence[str]) -> Tensor:
        """Return strings as the table of the cache numbers them, (n,)."""
        places = [self._strings.get(stored(surface), -1) for surface in surfaces]
        return torch.tensor(places, dtype=torch.int64, device=self._table.device)


def _of_listed(split: Split) -> Split:
    """Return a split of which only the listed entities are projected, not fewer at once than a test projects.

    A CPU's product of ten rows may differ in its last bit from that of many.
    """
    entities = split.entities
    return replace(split, entities=torch.cat([entities, entities[:1].expand(-len(entities) % TOGETHER)]))


def _sum(value: Tensor) -> str:
    """Return the checksum of a tensor's numbers."""
    return checksum(value.detach().cpu().contiguous().numpy().tobytes())


def _places(strings: np.ndarray) -> Mapping[bytes, int]:
    """Return the places of a column's distinct strings, sorted."""
    return {string: place for place, string in enumerate(np.unique(strings).tolist())}
