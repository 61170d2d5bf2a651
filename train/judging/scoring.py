"""The scores of a finished run: those of each mention's candidates, by each of its seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from common import devices
from common.errors import ConfigError, NotFiniteError
from common.options import from_json
from train.config import TrainConfig
from train.evaluating import protocols, ranking
from train.evaluating.untrained_heads import BASELINES
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.inspecting import trained_head
from train.prepare import table_of


@dataclass(frozen=True)
class Scored:
    """Mention rows (n,), the entities (n, C) of their lists, -1 = padding, and their scores (n, C), -inf there."""

    rows: np.ndarray
    entities: np.ndarray
    scores: np.ndarray


class Scorer:
    """A run whose heads score again, as its test did; `seeds` are those that are asked for.

    Raises ConfigError for a run without weights of them.
    """

    def __init__(self, run: Path, results: dict[str, Any], reader: Reader, seeds: list[int], device: str) -> None:
        told = {name: value for name, value in results["config"].items() if name != results["model"]}
        self.config: TrainConfig = from_json(TrainConfig, told)
        self._reader, self._device = reader, devices.choose(device)
        self._run = run
        if self.config.model not in HEADS:
            raise ConfigError(f"{run} is of the head {self.config.model!r:.60}, which melcache does not have")
        entry = protocols.ranking_of(self.config).head
        self.heads = [trained_head.of_run(run, results, reader, seed) for seed in seeds] if entry.network else []
        head: HeadConfig | None = self.heads[0].config if self.heads else None
        self._ranking = protocols.ranking_of(self.config)
        if self._ranking.among != "list":
            raise ConfigError(
                f"{run} ranks all entities (--protocol whole-kb), and predictions are of lists. Train it under another "
                "--protocol"
            )
        if head is not None and head.leak_gold:
            raise ConfigError(f"{run} was tested with gold in its graph (--leak-gold): what it predicts is not of use")
        self.table = table_of(self.config, head, reader, self._device)
        if self.config.protocol == "injected":
            self.table = protocols.injected(self._ranking, reader, self.table)

    @torch.no_grad()
    def scored(self, rows: Tensor) -> Scored:
        """Return the candidates of mention rows (n,), host memory, and their scores, mean over the seeds."""
        split = ranking.split_among(self.table, rows)
        present = self.table.present[rows.to(self._device)]
        if self.heads:
            scores = torch.stack([ranking.scores(head.model.to(self._device), split) for head in self.heads]).mean(0)
        else:
            scores = BASELINES[self.config.model](self.table, rows).float()
        if not scores[present].isfinite().all():
            raise NotFiniteError(f"scores of {self._run} are not finite: its weights are not those of a training")
        entities = self.table.candidates[rows.to(self._device)].where(present, -1)
        return Scored(rows.numpy(), entities.cpu().numpy(), scores.masked_fill(~present, -torch.inf).cpu().numpy())
