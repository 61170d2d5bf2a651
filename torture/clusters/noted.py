"""`python -m torture.clusters.noted train|extract WORDS`: such a command that notes what it begins, and then waits.

The workers that it starts do the same. The record is a file that the environment names; what a process has begun it
goes on with once a file is there beside the record (tiny_worker.gate_of).
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from torture.clusters.tiny_worker import POLL, gate_of, note, who
from workers import slurm
from workers.work import Work

LOOK = 0.5  # seconds between two looks at the queue
RECORD = "MELCACHE_TORTURE_RECORD"  # variables with this beginning travel with workers


def main(stage: str) -> None:
    """Run the rest of the command line."""
    record = Path(os.environ[RECORD])
    note(record, f"start {who()}")
    with mock.patch.object(slurm, "LOOK", LOOK):
        {"train": _train, "extract": _extract}[stage](record)


def _train(record: Path) -> None:
    from train import cli, loop
    from train.dividing import division

    real = loop.fit_seeds

    def fit_seeds(run: Any, seeds: tuple[int, ...], *rest: Any) -> Any:
        shown = ",".join(map(str, seeds))
        place = run.config.folder.name.removesuffix(f"-{shown}")  # a worker's own begins so
        return _at(record, f"{place}:{shown}", lambda: real(run, seeds, *rest))

    with (
        mock.patch.object(loop, "fit_seeds", fit_seeds),
        mock.patch.object(division, "Work", functools.partial(_work, "train")),
    ):
        cli.main()


def _extract(record: Path) -> None:
    from extract import cli
    from extract.computing import by_workers, missing_shards

    real = missing_shards.Work.finish

    def finish(work: Any, task: Any, rows: Any) -> None:
        if any(part in rows for part in task.parts):  # else others have made it
            _at(record, ":".join(map(str, task.key)), lambda: real(work, task, rows))
        else:
            real(work, task, rows)

    with (
        mock.patch.object(missing_shards.Work, "finish", finish),
        mock.patch.object(by_workers, "Work", functools.partial(_work, "extract")),
    ):
        cli.main()


def _work(stage: str, module: str, words: tuple[str, ...], finish: tuple[str, ...], *rest: Any, **more: Any) -> Work:
    """Return the work of workers that are this module's."""
    return Work("torture.clusters.noted", (stage, *words), (stage, *finish), *rest, **more)


def _at(record: Path, what: str, do: Callable[[], Any]) -> Any:
    note(record, f"range {what} {who()}")
    while not gate_of(record).exists():
        time.sleep(POLL)
    found = do()
    note(record, f"ended {what}")
    return found


if __name__ == "__main__":
    main(sys.argv.pop(1))
