"""The heads of a run over tables of its cache, of which new mentions take the place of the dataset's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache.edges import EDGES
from cache.reader import Reader
from common import devices
from common.errors import NotFiniteError
from common.output import no_bars
from link.opened_run import OpenedRun
from link.ranking.run_heads import RunHeads
from train.data.table import LEXICAL, Table
from train.evaluating import computed_edges, protocols, whole_kb
from train.evaluating.ranking import SHARE
from train.judging import calibration
from train.judging.predict import seeds_of, temperature_of
from train.judging.scoring import Scorer
from train.processes import World

ALIGNMENT = "pair.alignment"  # as batches have all four edges
Given = Sequence[Sequence[int] | None]  # rows of entities that a mention's list is to be, None where nothing says so


@dataclass(frozen=True)
class Ranked:
    """Mentions that were ranked: the `table` of them, their candidates (n, C), -1 = padding, and what these got.

    `scores` (n, C) are means over the seeds, -inf for padding, `shares` probabilities, and `edges` (n, C, 4) those that
    the head reads, None where it reads none.
    """

    table: Table
    candidates: np.ndarray
    scores: np.ndarray
    shares: np.ndarray
    edges: np.ndarray | None

    def evidence(self, place: int, at: np.ndarray, strings: np.ndarray) -> list[dict[str, float | None]]:
        """Return what speaks for each of a mention's candidates `at` some places of its list (k,).

        `strings` (k,) are their string scores.
        """
        found: dict[str, Sequence[float | None]] = {"string": strings.tolist()}
        held = self.table.sizes()
        for i, edge in enumerate(EDGES):
            if self.edges is not None:
                values = self.edges[place, at, i]
            elif edge.mention in held and edge.entity in held:
                rows = torch.tensor([place]), torch.from_numpy(self.candidates[place, at].astype(np.int64))[None]
                values = computed_edges.edge(self.table, edge, *rows)[0]
            else:
                continue
            found[edge] = [value or None for value in values.tolist()]  # 0 where a picture is missing
        return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


class Ranker:
    """The heads of a run's seeds, and the temperature that valid gives.

    `reader` is the run's cache, be it with entities behind its own. `among` says what is ranked: the `list` of a
    mention, the `best` entities by alignment score, or `all`.
    """

    def __init__(self, run: OpenedRun, reader: Reader, seed: str, device: str) -> None:
        mapped = run.results | {"config": run.results["config"] | {"resident": "mmap"}}
        self.reader, self.seeds = reader, seeds_of(run.folder, run.results, seed)
        scorer = Scorer(run.folder, mapped, reader, self.seeds, device)
        self._table, self._rule = scorer.heads.table, protocols.ranking_of(scorer.config)
        self.among = self._rule.among
        model = scorer.config.model
        self._heads = RunHeads(scorer.heads, reader, model, among_all=self.among == "all")
        self._aligned = self._search = None
        if self.among == "best" or (self.among == "list" and self._rule.reads_edges):
            self._aligned = computed_edges.table_of(reader, "mmap", self._table.device)
        if self._aligned is not None and self.among == "best":
            room = int(SHARE * devices.free_memory(self._table.device))
            self._search = whole_kb.with_entities(computed_edges.towers(self._aligned), self._aligned, room)
        self.temperature, _ = temperature_of(scorer, reader, run.results)

    @property
    def columns(self) -> list[str]:
        """The columns of mentions and tokens that `rank` needs."""
        aligned = self._aligned.mention_columns if self._aligned else []
        return list(dict.fromkeys([*self._table.mention_columns, *aligned]))

    @no_bars()
    def rank(
        self,
        columns: Mapping[str, np.ndarray],
        surfaces: Sequence[str],
        known: np.ndarray,
        candidates: np.ndarray,
        strings: np.ndarray,
        given: Given,
    ) -> Ranked:
        """Return n mentions ranked: their `columns` (n, ...), candidates (n, C) and string scores of these (n, C).

        `known` (n,) are the rows of those that the cache has, -1 of others: what train says of a string is without what
        the mention itself meant there. Where not lists are ranked, entities that are `given` stand for those that would
        be found. Raises NotFiniteError for scores that are not finite.
        """
        device = self._table.device
        listed, at = torch.from_numpy(candidates).to(device), torch.from_numpy(known).to(device)
        pairs: dict[str, Tensor] = {LEXICAL: torch.from_numpy(strings).to(device)}
        aligned = None
        if self._aligned is not None:
            aligned = self._aligned.with_mentions(columns, surfaces, at, listed, pairs)
        if aligned is not None and self.among == "list":
            pairs[ALIGNMENT] = _edges(aligned, listed)
        table = self._table.with_mentions(columns, surfaces, at, listed, pairs)
        if self.among == "all":
            candidates, scores = self._of_all(table, surfaces, given)
        else:
            if aligned is not None and self.among == "best":
                table = self._relisted(table, aligned, given)
            candidates = table.candidates.cpu().numpy()
            scores = np.where(candidates >= 0, self._heads.lists(table, surfaces), np.float32(-np.inf))
        if not np.isfinite(scores[candidates >= 0]).all():
            raise NotFiniteError("scores are not finite: the weights are not those of a training")
        edges = table.pairs().get(ALIGNMENT)
        shown = None if edges is None else edges.flatten(2).cpu().numpy()
        return Ranked(table, candidates, scores, calibration.probabilities(scores, self.temperature), shown)

    def _relisted(self, table: Table, aligned: Table, given: Given) -> Table:
        """Return the table with the lists that training re-ranked: what aligns with a mention best."""
        k = min(self._rule.rerank or self._table.places, table.entity_count)
        rows = torch.arange(len(given))
        assert self._search is not None, "made with the aligned table"
        search = replace(self._search, mentions=computed_edges.mentions_of(aligned))
        found = whole_kb.nearest(search, aligned, rows, k, World()).cpu().numpy()
        lists = torch.from_numpy(_padded([*found.tolist()], given)).to(table.device)
        pairs = {ALIGNMENT: _edges(aligned, lists)} if self._rule.reads_edges else {}
        return table.with_lists(lists, torch.full((len(given),), -1, device=table.device), pairs)

    def _of_all(self, table: Table, surfaces: Sequence[str], given: Given) -> tuple[np.ndarray, np.ndarray]:
        """Return the best of all entities (n, C), or those that are given, -1 = padding, and their scores."""
        best, scores = self._heads.best(table, surfaces)
        if all(rows is None for rows in given):
            return best, scores
        lists = _padded(best.tolist(), given)
        return lists, np.where(lists >= 0, self._heads.given(table, surfaces, lists), -np.inf)

    def about(self) -> dict[str, Any]:
        """Return the seeds, the number of entities, and the temperature."""
        return {"seeds": self.seeds, "entities": self._table.entity_count, "temperature": self.temperature}


def _edges(aligned: Table, lists: Tensor) -> Tensor:
    """Return the edges of mentions with their lists (n, k), -1 = padding: (n, k, 2, 2)."""
    return computed_edges.edges(aligned, torch.arange(len(lists)), lists.long().cpu())


def _padded(found: list[list[int]], given: Given) -> np.ndarray:
    """Return the lists that are given, and where none is those found, int32 (n, C), -1 = padding."""
    lists = [own if rows is None else rows for own, rows in zip(found, given, strict=True)]
    padded = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int32)
    for place, rows in enumerate(lists):
        padded[place, : len(rows)] = rows
    return padded
