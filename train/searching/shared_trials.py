"""The trials of a search as runs, and as what workers divide."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cache
from cache import Reader, store
from common import paths
from common.options import as_json
from common.paths import find_cache
from train.config import DECISIVE, TrainConfig
from train.config.studies import SweepConfig
from train.dividing import shared_work
from train.dividing.tasks import checkpoints_of, tasks_of
from train.heads.head_config import HeadConfig
from train.optimizing.checkpoint import Checkpoints
from train.run import code_of
from train.run_folder import run_files
from train.searching.asking import Asking
from train.searching.trials import Log
from train.searching.varied import Varied
from train.studies.runs import part

TRIAL = "trial-"  # what the folders of trials begin with


@dataclasses.dataclass(frozen=True)
class Trials:
    """The trials of a search as what workers divide.

    Workers ask as one process does, from the same log, and nothing that they find goes into it: then the search itself
    asks the same and finds it trained. So trials are divided as far as the sampler asks without looking at the results
    of others (Asking.blind), and beyond that the seeds of one trial.
    """

    optuna: ModuleType
    config: SweepConfig
    head: HeadConfig
    knobs: tuple[Varied, ...]

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return self.config.folder

    def clear(self) -> None:
        """Remove the log, and what the folders of trials hold."""
        Log(self.folder, {}, fresh=True)
        for name in paths.names(self.folder):
            if name.startswith(TRIAL):
                with store.alone(self.folder / name):
                    Checkpoints(self.folder / name, {}).tidy(fresh=True)

    def left(self) -> int:
        """Return how many seeds are to be trained, if no two trials are one.  Raises ConfigError for another search."""
        asking, log = self._asking()
        return (asking.asked - len(log.trials)) * len(self.config.seeds)

    def finished(self) -> dict[Path, set[int]]:
        """Return the seeds that are finished, by the folder of their trial."""
        trials = [self.folder / name for name in paths.names(self.folder) if name.startswith(TRIAL)]
        return {trial: set(run_files.names(trial, run_files.SEED)) for trial in trials}

    def work(self, *, wait: bool) -> None:
        """Train what no other worker is at; before results are looked at, those of others are waited for."""
        asking, log = self._asking()
        reader = cache.open(find_cache(self.config.dataset, self.config.shards))
        left = asking.asked - len(log.trials)
        while left > 0:
            asked = [asking.ask() for _ in range(min(left, asking.blind()))]
            left -= len(asked)
            runs = [run_of(self.config, self.head, chosen_of(self.knobs, trial.params)) for trial in asked]
            tasks = [tasks_of(run, head, reader, self.folder) for run, head in runs]
            once = {task.name: task for own in tasks for task in own}
            shared_work.work(list(once.values()), self.folder, wait=wait or left > 0)
            if left > 0:
                for trial, (run, head), own in zip(asked, runs, tasks, strict=True):
                    failed = any(task.failed for task in own)
                    asking.tell(trial, None if failed else value_of(run, _seeds(run, head, reader)))

    def _asking(self) -> tuple[Asking, Log]:
        log = Log(self.folder, identity_of(self.config, self.head), fresh=False)
        return Asking(self.optuna, self.config, log, self.knobs), log


def identity_of(config: SweepConfig, head: HeadConfig) -> dict[str, Any]:
    """Return what all trials have in common."""
    everything = as_json(config)
    common = {name: everything[name] for name in (*DECISIVE, "model", "seeds", "vary", "sampler")}
    cache_id = cache.open(find_cache(config.dataset, config.shards)).id
    own = {name: value for name, value in as_json(head).items() if not name.endswith("_width")}  # those are the cache's
    return {"cache": cache_id, "code": code_of(config.model)} | common | own


def chosen_of(knobs: Sequence[Varied], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of knobs that were drawn."""
    return {knob.name: knob.value(params) for knob in knobs}


def folder_of(config: SweepConfig, chosen: dict[str, Any]) -> Path:
    """Return the folder of a trial."""
    return config.folder / f"{TRIAL}{hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]}"


def run_of(config: SweepConfig, head: HeadConfig, chosen: dict[str, Any]) -> tuple[TrainConfig, HeadConfig]:
    """Return the run of a trial and its head's config."""
    mine = {name: value for name, value in chosen.items() if name in DECISIVE}
    own = {name: value for name, value in chosen.items() if name not in DECISIVE}
    return part(config, folder_of(config, chosen), mine), dataclasses.replace(head, **own)


def value_of(config: TrainConfig, seeds: Sequence[dict[str, Any]]) -> float:
    """Return what a trial has reached on valid, of its seeds' results."""
    return statistics.fmean(seed["valid"][config.select] for seed in seeds)


def _seeds(config: TrainConfig, head: HeadConfig, reader: Reader) -> list[dict[str, Any]]:
    """Return the results of a trial's finished seeds."""
    found = checkpoints_of(config, head, reader).finished()
    return [found[seed] for seed in sorted(found)]
