"""The scores of a finished run: those that its seeds kept, and for other mentions those that its heads give again."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from common import devices
from common.errors import ConfigError, NotFiniteError
from common.options import from_json
from common.output import say
from train.config import TrainConfig
from train.data.table import Table
from train.evaluating import best_entities, metrics, protocols, ranking, whole_kb
from train.evaluating.untrained_heads import BASELINES, BEST_OF_ALL, OF_ALL
from train.evaluating.whole_kb import Towers
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.heads.with_lexical import WithLexical
from train.heads.with_objective import WithObjective
from train.inspecting import trained_head
from train.inspecting.trained_head import Trained
from train.judging import gold_rank, stored_scores
from train.judging.stored_scores import Scored
from train.optimizing import checkpoint
from train.prepare import table_of
from train.processes import World
from train.run import code_of

LONGEST = 8  # |m||e| of a head that adds strings, as heads.base has it


class Scorer:
    """A run that scores, as its test did; `seeds` are those whose mean counts.

    Raises ConfigError for a run without weights of them.
    """

    def __init__(self, run: Path, results: dict[str, Any], reader: Reader, seeds: list[int], device: str) -> None:
        model = results["model"]
        told = {name: value for name, value in results["config"].items() if name != model}
        self.config: TrainConfig = from_json(TrainConfig, told)
        if results["config"].get(model, {}).get("leak_gold"):
            raise ConfigError(f"{run} was tested with gold in its graph (--leak-gold): what it predicts is not of use")
        self._run, self._results, self._reader, self._seeds = run, results, reader, seeds
        self._kept = [stored_scores.read(run, results, reader, seed) for seed in seeds]
        self._anew: Callable[[], Heads] = lambda: Heads(run, results, self.config, reader, seeds, device)
        self._loaded: Heads | None = None

    @property
    def heads(self) -> "Heads":
        """The run's heads, which are loaded when they are asked for."""
        self._loaded = self._loaded or self._anew()
        return self._loaded

    def counted(self, split: str) -> np.ndarray:
        """Return the mention rows (n,) of valid or test that the run's numbers are of."""
        if self._kept[0]:
            return self._kept[0][split].rows if split in self._kept[0] else np.arange(0)
        rows: np.ndarray = ranking.rows_of(self.heads.table, split, self.config.protocol).numpy()
        return rows

    def scored(self, rows: np.ndarray) -> Scored:
        """Return the candidates of mention rows (n,), ascending, and their scores, mean over the seeds."""
        found = self._known(rows)
        left = np.setdiff1d(rows, [] if found is None else found.rows)
        if not len(left):
            assert found is not None, "of no mention nobody asks"
            return found
        return _joined(found, self.heads.scored(torch.from_numpy(left)))

    def gold_ranks(self, found: Scored) -> tuple[np.ndarray, np.ndarray]:
        """Return metrics.ranks of gold, int64 (n,) twice, for what `scored` gave: also behind the end of a list."""
        better, tied = gold_rank.in_lists(self._reader, found)
        if self._results["ranked"] != stored_scores.ALL:
            return better, tied
        lost = (better == metrics.NEVER) & gold_rank.known(self._reader, found.rows)
        if lost.any():
            kept = self._kept_ranks()
            places = np.searchsorted(kept["rows"], found.rows).clip(max=max(0, len(kept["rows"]) - 1))
            there = lost & (kept["rows"][places] == found.rows) if len(kept["rows"]) else lost & False
            better[there], tied[there] = (kept[name][places[there]] for name in ("better", "tied"))
            if (left := lost & ~there).any():
                better[left], tied[left] = self.heads.gold_ranks(torch.from_numpy(found.rows[left]))
        return better, tied

    def _kept_ranks(self) -> dict[str, np.ndarray]:
        """Return the ranks that a seed kept of test; none for the mean of several, which is another system."""
        if len(self._seeds) > 1:
            return {name: np.zeros(0, np.int64) for name in ("rows", "better", "tied")}
        result = next(one for one in self._results["seeds"] if one["seed"] == self._seeds[0])
        about = {name: self._results[name] for name in ("model", "cache_id")}
        return {name: ranks.numpy() for name, ranks in checkpoint.ranks(self._run, result, about).items()}

    def _known(self, rows: np.ndarray) -> Scored | None:
        """Return what the seeds kept of these rows; None where they kept none, or lists that have no mean."""
        splits = [name for name in ("valid", "test") if all(name in own for own in self._kept)]
        if self._results["ranked"] == stored_scores.ALL and len(self._kept) > 1:  # each has lists of its own
            splits = []
        found = None
        for name in splits:
            every = [own[name] for own in self._kept]
            first, inside = every[0], np.isin(every[0].rows, rows)
            if any(not np.array_equal(own.entities, first.entities) for own in every):
                continue
            mean = stored_scores.mean([own.scores[inside] for own in every])
            found = _joined(found, Scored(first.rows[inside], first.entities[inside], mean))
        return found if found is not None and len(found.rows) else None


class Heads:
    """The heads of some seeds, with their weights, which score again; `trained`, and the `table` that they read."""

    def __init__(
        self, run: Path, results: dict[str, Any], config: TrainConfig, reader: Reader, seeds: list[int], device: str
    ) -> None:
        if config.model not in HEADS:
            raise ConfigError(
                f"{run} is of the head {config.model!r:.60}, which melcache does not have, and kept no scores of these "
                f"mentions: name its file with --model {config.model:.60}.py"
            )
        self._run, self._config, self._reader, self._device = run, config, reader, devices.choose(device)
        self._ranking = protocols.ranking_of(config)
        self.trained: list[Trained] = []
        if self._ranking.head.network:
            self.trained = [trained_head.of_run(run, results, reader, seed) for seed in seeds]
            if self.trained[0].about["code"] != code_of(config.model):
                say(f"{run} was trained by other code or under another torch: last digits of scores may differ")
        head: HeadConfig | None = self.trained[0].config if self.trained else None
        self.table = table_of(config, head, reader, self._device)
        if config.protocol == "injected":
            self.table = protocols.injected(self._ranking, reader, self.table)

    @torch.no_grad()
    def scored(self, rows: Tensor) -> Scored:
        """Return the candidates of mention rows (n,), host memory, and their scores, mean over the seeds."""
        if self._ranking.among == "all":
            entities, scores = self._best(rows)
            return Scored(rows.numpy(), entities.cpu().numpy(), scores.cpu().numpy())
        table = self.table
        if self._ranking.among == "best":
            table = protocols.reranked(self._ranking, self._reader, table, rows, World())
        there = rows.to(self._device)
        split, present = ranking.split_among(table, rows), table.present[there]
        if self.trained:
            every = [ranking.scores(h.model.to(self._device), split).cpu().numpy() for h in self.trained]
            scores = torch.from_numpy(stored_scores.mean(every)).to(self._device)
        else:
            scores = BASELINES[self._config.model](table, rows).float()
        if not scores[present].isfinite().all():
            raise NotFiniteError(f"scores of {self._run} are not finite: its weights are not those of a training")
        scores = scores.masked_fill(~present, -torch.inf)[:, : table.places]
        entities = table.candidates[there].where(present, -1)[:, : table.places]
        return Scored(rows.numpy(), entities.long().cpu().numpy(), scores.cpu().numpy())

    @torch.no_grad()
    def gold_ranks(self, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return metrics.ranks of mention rows (n,), host memory, among all entities, int64 (n,) twice."""
        if self.trained:
            better, tied = whole_kb.ranks(mean_towers(self._networks(), self.table)[0], self.table, rows, World())
        else:
            better, tied = OF_ALL[self._config.model](self.table, rows, World())
        return better.cpu().numpy(), tied.cpu().numpy()

    def _best(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if not self.trained:
            return BEST_OF_ALL[self._config.model](self.table, rows, World())
        towers, factor = mean_towers(self._networks(), self.table)
        entities, scores = best_entities.best(towers, self.table, rows, World())
        return entities, scores * factor

    def _networks(self) -> list[Head]:
        return [head.model.to(self._device) for head in self.trained]


def mean_towers(models: Sequence[Head], table: Table) -> tuple[Towers, float]:
    """Return towers whose score, times the factor beside them, is the mean of the heads' scores.

    A head whose towers give its score divided by its `reach` counts by that: the mean ranks as that of the scores in
    lists does. Its unit is the mean reach.
    """
    reaches = [_reach_of(model) for model in models]
    shares = [reach * len(models) / sum(reaches) for reach in reaches]
    longest = LONGEST if any(model.adds_strings for model in models) else 1
    towers, scale = side_by_side([whole_kb.towers_of(model, table) for model in models], shares, longest)
    return towers, scale / len(models)


def _reach_of(model: Head) -> float:
    """Return what the score of a head's towers is its score divided by, 1 of a head that says nothing of it."""
    while isinstance(model, WithLexical | WithObjective):
        model = model.head
    reach = getattr(model, "reach", None)
    return float(reach().detach()) if callable(reach) else 1.0


def side_by_side(every: Sequence[Towers], shares: Sequence[float], longest: int = 1) -> tuple[Towers, float]:
    """Return towers whose score is the sum of others' scores, each times its share, divided by a scale; and that scale.

    `longest` bounds each one's |m||e|, and shares are 1 on average. Where sums are below 8 the scale is 1: beyond, they
    are no longer exact in float64 (cache.edges).
    """
    if len(every) == 1:
        return every[0], 1.0
    scale = 2.0 ** max(0, (longest * len(every)).bit_length() - 3)

    def mentions(rows: Tensor) -> Tensor:
        return torch.cat(
            [share / scale * towers.mentions(rows) for share, towers in zip(shares, every, strict=True)], -1
        )

    def entities(rows: Tensor) -> Tensor:
        return torch.cat([towers.entities(rows) for towers in every], -1)

    def pairs(rows: Tensor, those: Tensor) -> Tensor:
        both = zip(shares, every, strict=True)
        added = [share * towers.pairs(rows, those) for share, towers in both if towers.pairs is not None]
        return functools.reduce(torch.add, added) / scale  # torch.sum adds in an order that depends on the place

    return Towers(mentions, entities, pairs if every[0].pairs is not None else None), scale


def _joined(first: Scored | None, second: Scored) -> Scored:
    """Return the mentions of both, each once, in order."""
    if first is None:
        return second
    new = ~np.isin(second.rows, first.rows)
    rows = np.concatenate([first.rows, second.rows[new]])
    order = np.argsort(rows)
    entities, scores = (
        np.concatenate([getattr(first, name), getattr(second, name)[new]])[order] for name in ("entities", "scores")
    )
    return Scored(rows[order], entities, scores)
