"""The heads of a run over tables of its cache, of which new mentions take the place of the dataset's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache.edges import EDGES
from cache.reader import Reader
from common.errors import NotFiniteError
from link.opened_run import OpenedRun
from train.data.table import LEXICAL, Table
from train.evaluating import computed_edges, ranking
from train.evaluating.ranking import Split
from train.judging import calibration, stored_scores
from train.judging.predict import seeds_of, temperature_of
from train.judging.scoring import Scorer

ALIGNMENT = "pair.alignment"  # as batches have all four edges


@dataclass(frozen=True)
class Ranked:
    """Mentions that were ranked: the `table` of them, their candidates (n, C), -1 = padding, and what these got.

    `scores` (n, C) are means over the seeds, -inf for padding, `shares` probabilities, `strings` the string scores, and
    `edges` (n, C, 4) those that the head reads, None where it reads none.
    """

    table: Table
    candidates: np.ndarray
    scores: np.ndarray
    shares: np.ndarray
    strings: np.ndarray
    edges: np.ndarray | None

    def evidence(self, place: int, at: np.ndarray) -> list[dict[str, float | None]]:
        """Return what speaks for each of a mention's candidates `at` some places of its list (k,)."""
        found: dict[str, Sequence[float | None]] = {"string": self.strings[place, at].tolist()}
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
    """The heads of a run's seeds, the features of all entities, and the temperature that valid gives.

    `reader` is the run's cache, be it with entities behind its own.
    """

    def __init__(self, run: OpenedRun, reader: Reader, seed: str, device: str) -> None:
        mapped = run.results | {"config": run.results["config"] | {"resident": "mmap"}}
        self.reader, self.seeds = reader, seeds_of(run.folder, run.results, seed)
        scorer = Scorer(run.folder, mapped, reader, self.seeds, device)
        self._table = scorer.heads.table
        self._heads = [head.model.to(self._table.device) for head in scorer.heads.trained]
        self._aligned = None
        if ALIGNMENT in self._table.pairs():
            self._aligned = computed_edges.table_of(reader, "mmap", self._table.device)
        self.temperature, _ = temperature_of(scorer, reader, run.results)
        self._entities = torch.arange(self._table.entity_count)
        with torch.no_grad():
            self._projected = [ranking.project(head, self._table, self._entities) for head in self._heads]

    @property
    def columns(self) -> list[str]:
        """The columns of mentions and tokens that `rank` needs."""
        aligned = self._aligned.mention_columns if self._aligned else []
        return list(dict.fromkeys([*self._table.mention_columns, *aligned]))

    def rank(
        self,
        columns: Mapping[str, np.ndarray],
        surfaces: Sequence[str],
        known: np.ndarray,
        candidates: np.ndarray,
        strings: np.ndarray,
    ) -> Ranked:
        """Return n mentions ranked: their `columns` (n, ...), candidates (n, C) and string scores of these (n, C).

        `known` (n,) are the rows of those that the cache has, -1 of others: what train says of a string is without what
        the mention itself meant there. Raises NotFiniteError for scores that are not finite.
        """
        device, rows = self._table.device, torch.arange(len(candidates))
        listed, at = torch.from_numpy(candidates).to(device), torch.from_numpy(known).to(device)
        pairs: dict[str, Tensor] = {LEXICAL: torch.from_numpy(strings).to(device)}
        if self._aligned is not None:
            there = self._aligned.with_mentions(columns, surfaces, at, listed, pairs)
            pairs[ALIGNMENT] = computed_edges.edges(there, rows, torch.from_numpy(candidates.astype(np.int64)))
        table = self._table.with_mentions(columns, surfaces, at, listed, pairs)
        scores = self._scores(Split(table, rows, self._entities, listed.clamp(min=0).long()))
        if not np.isfinite(scores[candidates >= 0]).all():
            raise NotFiniteError("scores are not finite: the weights are not those of a training")
        shares = calibration.probabilities(scores, self.temperature)
        edges = pairs[ALIGNMENT].flatten(2).cpu().numpy() if ALIGNMENT in pairs else None
        return Ranked(table, candidates, scores, shares, strings, edges)

    def _scores(self, split: Split) -> np.ndarray:
        """Return the scores of candidates, (n, C), mean over the seeds, -inf for padding."""
        heads = zip(self._heads, self._projected, strict=True)
        mean = stored_scores.mean([ranking.scores(head, split, projected).cpu().numpy() for head, projected in heads])
        found: np.ndarray = np.where(split.table.present.cpu().numpy(), mean, np.float32(-np.inf))
        return found

    def about(self) -> dict[str, Any]:
        """Return the seeds, the number of entities, and the temperature."""
        return {"seeds": self.seeds, "entities": len(self._entities), "temperature": self.temperature}
