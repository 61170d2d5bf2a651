"""Tasks: the seeds of a run that are trained together, each in a working folder until they are handed in.

A worker trains a task as an ordinary run of these seeds in `<series>/.workers/<task>/`, where a kill leaves what the
next worker continues. Then it hands the files in to the run's own folder, seed by seed; those that are there already
stay. What is missing in the end is trained by the command as if there had been no workers.
"""

import contextlib
import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from cache import Reader, store
from common import devices, paths
from common.errors import CacheError, NotFiniteError, UntrainableError
from train import loop, results
from train.config import TrainConfig
from train.heads.head_config import HeadConfig
from train.heads.models import MODELS
from train.optimizing.checkpoint import Checkpoints
from train.prepare import with_precision, with_widths
from train.run import identity
from train.run_folder import run_files

AREA = ".workers"  # in the folder of a series or search: working folders and claims
LONGEST = 10_000  # bytes of a reason
EVENTS = "events.out.tfevents."  # TensorBoard's


@dataclass(frozen=True)
class Task:
    """Seeds of a run, whose `config` is resolved, and the name of their working folder in `area`."""

    config: TrainConfig
    head: HeadConfig
    checkpoints: Checkpoints
    seeds: tuple[int, ...]
    area: Path
    run: str
    alone: bool

    @property
    def name(self) -> str:
        """The name of its claim and folder, whatever is left of the run: the run's, and the seed if trained alone."""
        return f"{self.run}-{self.seeds[0]}" if self.alone and len(self.config.seeds) > 1 else self.run

    @property
    def over(self) -> bool:
        """Whether all seeds are in the run's folder, or the run cannot end."""
        known = run_files.names(self.config.folder, run_files.SEED)
        return known.keys() >= set(self.seeds) or paths.exists(self._stopped)

    @property
    def failed(self) -> bool:
        """Whether the run was seen not to end."""
        return paths.exists(self._stopped)

    @property
    def _folder(self) -> Path:
        return self.area / self.name

    @property
    def _stopped(self) -> Path:
        return self.area / f"{self.run}.stopped"

    def train(self) -> None:
        """Train the seeds and hand them in; of a run that no machine can train, such as one that diverges, note that.

        The command says why when it comes to that run. Raises BusyError if another process is at these seeds, and any
        MelcacheError for what may be this machine's alone: a package or a path that it lacks, its memory, its GPU.
        """
        self._take_over()
        mine = dataclasses.replace(self.config, seeds=self.seeds, run=self._folder, fresh=False)
        try:
            loop.fit(mine, self.head)
        except (NotFiniteError, UntrainableError) as error:
            store.publish(self._stopped, str(error).encode()[:LONGEST], replace=True)
        else:
            self._hand_in()

    def _take_over(self) -> None:
        """Go on with what the run's own folder holds of just these seeds half done."""
        if not paths.exists(self.config.folder / run_files.UNFINISHED):
            return
        with store.alone(self.config.folder, wait=True):
            half = self.checkpoints.unfinished(self.config.seeds)
            if half is not None and set(half.what["seeds"]) == set(self.seeds):
                paths.make_folder(self._folder)
                _move(half.path, self._folder)

    def _hand_in(self) -> None:
        run = self.config.folder
        with store.alone(run, wait=True):
            for seed in self.seeds:
                if seed not in run_files.names(run, run_files.SEED):
                    for kind in ("ranks", "scores", "seed"):  # whose last one says that it is whole
                        _move(self._folder / f"{kind}-{seed}.safetensors", run)
            for name in paths.names(self._folder):
                if name.startswith(EVENTS):
                    _move(self._folder / name, run)
            found = self.checkpoints.finished()
            order = [seed for seed in self.config.seeds if seed in found]
            results.write_curves(
                run, {seed: found[seed]["history"] for seed in (*order, *sorted(found.keys() - order))}
            )
        shutil.rmtree(self._folder, ignore_errors=True)


def checkpoints_of(config: TrainConfig, head: HeadConfig | None, reader: Reader) -> Checkpoints:
    """Return the checkpoints of a run's folder, with the identity that they must have."""
    config = with_precision(config, devices.choose(config.device))
    return Checkpoints(config.folder, identity(config, with_widths(head, reader), reader))


def tasks_of(config: TrainConfig, head: HeadConfig, reader: Reader, series: Path) -> list[Task]:
    """Return the tasks of a run whose seeds are not finished.  Raises ConfigError if its folder holds another run.

    A task is what one machine would train together: on a GPU all seeds (or one by one where they do not fit, in one
    task all the same), else each alone.
    """
    checkpoints = checkpoints_of(config, head, reader)
    checkpoints.check()
    finished = checkpoints.finished()
    left = tuple(seed for seed in config.seeds if seed not in finished)
    alone = apart(config, devices.choose(config.device))
    groups = [(seed,) for seed in left] if alone else [left] * bool(left)
    run = "+".join(config.folder.relative_to(series).parts)
    return [Task(config, head, checkpoints, seeds, series / AREA, run, alone) for seeds in groups]


def apart(config: TrainConfig, device: torch.device) -> bool:
    """Whether seeds of a run are trained one by one, whatever memory is free (prepare.groups)."""
    if config.together == "auto" and device.type != "cuda":
        return True
    return config.together == "no" or not MODELS[config.model].stackable


def remove_area(series: Path) -> None:
    """Remove what workers have left in the folder of a series."""
    if paths.exists(series / AREA):
        shutil.rmtree(series / AREA, ignore_errors=True)


def _move(path: Path, folder: Path) -> None:
    """Move a file, if it is there, into a folder of the same file system, durably.  Raises CacheError."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.replace(path, folder / path.name)
            store.sync_directory(folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CacheError(f"cannot write {folder / path.name}: {error.strerror}: {store.remedy(error)}") from error
