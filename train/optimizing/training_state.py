"""Everything that changes while some seeds are trained together: what a checkpoint holds, and how it goes on."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.errors import ConfigError
from train.config import LOWER_IS_BETTER, TrainConfig
from train.heads.base import Head
from train.optimizing import checkpoint
from train.optimizing.adam import Adam, Schedule
from train.optimizing.checkpoint import Checkpoints, Half, layout_of
from train.optimizing.stacked_seeds import Stack
from train.run_folder import run_files
from train.run_folder.run_files import Layout, TensorFile

CHECKPOINT_SHARE = 0.1  # of the time that checkpoints may take
CUDA, CUDA_STATE = "random.cuda", ("U8", (16,))  # the state of a GPU's generator: its seed and its place


@dataclass(frozen=True)
class Plan:
    """How seeds are trained: the optimizer's settings, how many epochs, and which metric of valid picks the best.

    A seed stops after `patience` epochs without a better one, 0 = never.
    """

    schedule: Schedule
    epochs: int
    select: str
    patience: int


def plan_of(config: TrainConfig, mentions: int) -> Plan:
    """Return how a run trains on so many mentions; its config is resolved."""
    steps = math.ceil(mentions / config.batch) * config.epochs if config.decay else 0
    schedule = Schedule(config.learning_rate, config.warm_up, steps, config.weight_decay, config.clip_norm)
    return Plan(schedule, config.epochs, config.select, config.patience)


class Training:
    """Seeds in training after `epoch` epochs: weights, optimizer, random states, history, best weights.

    `history`, `best` and `untrained`, the metrics of valid before the first epoch where that may be selected, hold one
    entry per seed; `best[i]["state"]` lives on the device. So do `scores`, which valid had at the best epoch (n, C):
    no checkpoint holds them, and None stands for what is not known.
    """

    def __init__(self, plan: Plan, build: Callable[[], Head], seeds: tuple[int, ...], device: torch.device) -> None:
        self._plan = plan
        self.seeds, self.epoch, self.seconds = seeds, 0, 0.0
        self.stack = Stack(build, seeds, device)
        self.adam = Adam(list(self.stack.parameters.values()), plan.schedule, stacked=len(seeds) > 1)
        self.history: list[list[dict[str, Any]]] = [[] for _ in seeds]
        self.best_epoch, self.untrained = [0] * len(seeds), [None] * len(seeds)
        self.scores: list[Tensor | None] = [None] * len(seeds)
        self._best = [{n: t.clone() for n, t in self.stack.state(i).items()} for i in range(len(seeds))]
        self._orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._kept, self._keeping = time.monotonic(), 0.0

    def orders(self, count: int) -> Tensor:
        """Return the next epoch's order of `count` mentions for each seed, (S, count)."""
        return torch.stack([torch.randperm(count, generator=order) for order in self._orders])

    def going(self) -> list[int]:
        """Return the positions of seeds that have not gone `--patience` epochs without a better one."""
        waited = [len(history) - best for history, best in zip(self.history, self.best_epoch, strict=True)]
        return [i for i, epochs in enumerate(waited) if not 0 < self._plan.patience <= epochs]

    def begin(self, position: int, valid: dict[str, float], scores: Tensor | None) -> None:
        """Let a seed's weights as they are before the first epoch be selected; metrics and scores are of valid."""
        self.untrained[position], self.scores[position] = valid, scores

    def valid(self, position: int) -> dict[str, float]:
        """Return the metrics of valid of a seed's best epoch."""
        epoch = self.best_epoch[position]
        return self.history[position][epoch - 1]["valid"] if epoch else self.untrained[position]

    def record(self, position: int, loss: float, valid: dict[str, float], scores: Tensor | None) -> None:
        """Add an epoch to a seed's history and keep its weights if it is the best so far (the earliest wins)."""
        history = self.history[position]
        sign = -1 if self._plan.select in LOWER_IS_BETTER else 1
        known = [self.untrained[position], *(epoch["valid"] for epoch in history)]
        values = [sign * metrics[self._plan.select] for metrics in known if metrics is not None]
        history.append({"epoch": self.epoch, "loss": loss, "valid": valid})
        if sign * valid[self._plan.select] > max(values, default=-math.inf):
            self.best_epoch[position], self.scores[position] = self.epoch, scores
            for name, tensor in self.stack.state(position).items():
                self._best[position][name].copy_(tensor)

    def best(self, position: int) -> dict[str, Tensor]:
        """Return the weights of a seed's best epoch."""
        return self._best[position]

    def keep(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, unless that would take more than a tenth of the time."""
        start = time.monotonic()
        if self._keeping > CHECKPOINT_SHARE * (start - self._kept):
            return
        what = {
            "seeds": list(self.seeds),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "untrained": self.untrained,
        }
        checkpoints.keep(self._tensors(), what)
        self._kept, self._keeping = time.monotonic(), time.monotonic() - start

    @torch.no_grad()
    def load(self, half: Half) -> None:
        """Continue from a checkpoint: bit by bit the training that wrote it, on the CPU.

        Raises ConfigError if it is damaged, or not of such a training.
        """
        with run_files.naming(half.path, "a checkpoint of melcache"):
            tensors = checkpoint.load(half.path, self._wanted)[0]
            for name, tensor in self._tensors().items():
                if name.startswith("best.") and not tensors[name].isfinite().all():
                    raise ConfigError(f"it holds numbers of {name} that are not finite")
                if not name.startswith("random"):
                    tensor.copy_(tensors[name])
            try:
                for i, order in enumerate(self._orders):
                    order.set_state(tensors[f"order.{i}"])
                torch.set_rng_state(tensors["random"])
                if CUDA in tensors and torch.cuda.is_available():  # dropout and drawn negatives go on where they were
                    torch.cuda.set_rng_state(tensors[CUDA])
            except RuntimeError:
                raise ConfigError("it holds no state of a random generator") from None
            self._continue(half.what)

    def _continue(self, what: dict[str, Any]) -> None:
        """Take over how far the seeds are."""
        if what["epoch"] > self._plan.epochs:
            raise ConfigError(f"it is after epoch {what['epoch']} of {self._plan.epochs}")
        self.epoch, self.seconds = what["epoch"], what["seconds"]
        self.history, self.best_epoch, self.untrained = what["history"], what["best_epoch"], what["untrained"]

    def _wanted(self, file: TensorFile) -> Layout:
        """Return the tensors that a checkpoint must have; the state of a GPU's generator it may have or lack."""
        wanted = {name: spec for name, spec in layout_of(self._tensors()).items() if name != CUDA}
        return wanted | {name: spec for name, spec in file.layout.items() if name == CUDA and spec == CUDA_STATE}

    def _tensors(self) -> dict[str, Tensor]:
        best = {f"best.{i}.{name}": t for i, state in enumerate(self._best) for name, t in state.items()}
        weights = {f"weight.{name}": tensor for name, tensor in self.stack.parameters.items()}
        adam = {f"adam.{name}": tensor for name, tensor in self.adam.state().items()}
        orders = {f"order.{i}": order.get_state() for i, order in enumerate(self._orders)}
        random = {"random": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            random[CUDA] = torch.cuda.get_rng_state()
        return best | weights | adam | orders | random
