"""The runs of one or more series as what workers divide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import Reader, store
from train.dividing import shared_work
from train.dividing.tasks import Task, checkpoints_of, tasks_of
from train.run_folder import run_files
from train.studies import runs
from train.studies.runs import Variant


@dataclass(frozen=True)
class Runs:
    """Runs in folders below `folder`, each with the cache that it reads; `command` is the name of their result."""

    folder: Path
    command: str
    runs: Sequence[tuple[Variant, Reader]]

    def clear(self) -> None:
        """Remove the results, and what the runs' folders hold."""
        for run, reader in self._trained():
            runs.forget(run.config.folder.parent, self.command)
            with store.alone(run.config.folder):
                checkpoints_of(run.config, run.head, reader).tidy(fresh=True)
        runs.forget(self.folder, self.command)

    def left(self) -> int:
        """Return how many seeds are to be trained.  Raises ConfigError for a folder of other runs."""
        return sum(len(task.seeds) for task in self._tasks() if not task.over)

    def finished(self) -> dict[Path, set[int]]:
        """Return the seeds that are finished, by the folder of their run."""
        folders = [run.config.folder for run, _ in self._trained()]
        return {folder: set(run_files.names(folder, run_files.SEED)) for folder in folders}

    def work(self, *, wait: bool) -> None:
        """Train what no other worker is at."""
        shared_work.work(self._tasks(), self.folder, wait=wait)

    def _trained(self) -> Iterator[tuple[Variant, Reader]]:
        return ((run, reader) for run, reader in self.runs if run.head is not None and runs.feedable(run, reader))

    def _tasks(self) -> list[Task]:
        return [task for run, reader in self._trained() for task in tasks_of(run.config, run.head, reader, self.folder)]
