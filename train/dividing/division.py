"""How the runs of a command are divided: among an engine's workers, among others as one of them, or not at all."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from cache import store
from common import paths
from common.errors import ConfigError, MelcacheError
from common.options import Given, as_words, given_words
from common.output import say
from train.config import TrainConfig
from train.dividing.config import OTHERS, WorkersConfig
from train.dividing.tasks import AREA, remove_area
from train.run_folder import run_files
from workers import launch
from workers.engine import Engine
from workers.work import Work

LATER = contextlib.suppress(MelcacheError)  # of a run that cannot be trained here: the command comes to it, and says so
Config = TypeVar("Config", bound=TrainConfig)


class Divisible(Protocol):
    """What can be divided: the trainings of a series or search, in its `folder`."""

    folder: Path

    def clear(self) -> None:
        """Remove what --fresh trains anew."""

    def left(self) -> int:
        """Return how many seeds are to be trained.  Raises ConfigError for a folder of other runs."""

    def finished(self) -> dict[Path, set[int]]:
        """Return the seeds that are finished, by the folder of their run."""

    def work(self, *, wait: bool) -> None:
        """Train what no other worker is at, as shared_work.work does."""


@dataclass(frozen=True)
class Division:
    """Who trains. `words` are those with which a worker is started, `finish` those of the command without workers.

    `before` are the seeds that were finished when the workers began, by the folder of their run.
    """

    engine: Engine | None = None
    one_of_many: bool = False
    words: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    before: dict[Path, set[int]] = field(default_factory=dict, compare=False)

    @property
    def divided(self) -> bool:
        """Whether other processes may be at work in the folder, which are then waited for."""
        return self.engine is not None

    def ahead(self, work: Divisible, *, fresh: bool) -> bool:
        """Train ahead what can be; return whether this process goes on, as if alone, and finds it finished.

        False: it is one of many, or the workers go on without it.
        """
        if self.one_of_many:
            with store.together(work.folder, wait=True):
                work.work(wait=False)
            say("nothing is left to take. The same command without --workers-on shows the result when all are done")
            return False
        if self.engine is None:
            if not fresh and paths.exists(work.folder / AREA):  # of workers that were stopped
                with store.alone(work.folder), LATER:
                    work.work(wait=True)
            elif fresh:
                _remove(work.folder)
            return True
        launch.check(self.engine, work.folder)
        if fresh:
            with store.alone(work.folder):
                work.clear()
                remove_area(work.folder)
        with store.together(work.folder):
            todo = work.left()
            self.before.update(work.finished())
        known = _count(self.before)
        task = Work(
            "train", self.words, self.finish, work.folder, "seeds", todo, lambda: _count(work.finished()) - known
        )
        if not launch.run(self.engine, task):
            return False
        with store.together(work.folder, wait=True), LATER:
            work.work(wait=True)
        return True

    def rest(self, config: Config) -> Config:
        """Return the config of what is done after the workers, which have begun anew where that was asked for."""
        return dataclasses.replace(config, fresh=False) if self.divided else config

    def lately(self, run: Path) -> set[int]:
        """Return the seeds of a run that the workers have trained, or others beside them."""
        return set(run_files.names(run, run_files.SEED)) - self.before.get(run, set()) if self.divided else set()

    @contextlib.contextmanager
    def alone(self, folder: Path) -> Iterator[None]:
        """Hold a folder whose parts the block holds, where others may be at work in it."""
        with store.alone(folder, wait=True) if self.divided else contextlib.nullcontext():
            yield

    def done(self, folder: Path) -> None:
        """Remove what workers have left, once the result is there."""
        if self.divided or paths.exists(folder / AREA):
            _remove(folder, wait=True)


ALONE = Division()


def of(command: str, config: Config, given: Sequence[Given]) -> tuple[Config, tuple[Given, ...], Division]:
    """Return the config and the knobs of heads, and how the command is divided.

    Workers on one machine share its cores: then the config says with how many threads each run is trained, by whomever,
    since on a CPU that decides the last bits of some heads' numbers. Raises ConfigError.
    """
    *heads, last = given
    workers: WorkersConfig = last.config()
    if workers.one_of_many and config.fresh:
        raise ConfigError(
            f"--fresh with --workers-on {OTHERS} would remove what others train: run it once without --workers-on"
        )
    engine = workers.engine
    if engine is not None and engine.kind == "local" and not config.threads:
        config = dataclasses.replace(config, threads=max(1, len(os.sched_getaffinity(0)) // engine.count))
        say(f"numbers will be those of one process with --threads {config.threads}")
    alone = (command, *as_words(dataclasses.replace(config, fresh=False)), *given_words(heads))
    return config, tuple(heads), Division(engine, workers.one_of_many, (*alone, "--workers-on", OTHERS), alone)


def _count(seeds: Mapping[Path, set[int]]) -> int:
    return sum(map(len, seeds.values()))


def _remove(folder: Path, *, wait: bool = False) -> None:
    if paths.exists(folder / AREA):
        with store.alone(folder, wait=wait):
            remove_area(folder)
