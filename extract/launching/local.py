"""`--workers-on local:N`: N extractors on this machine, one for each GPU where there are several."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common.options import as_words
from common.output import Progress, say
from common.paths import names
from extract.config import ExtractConfig

LOOK = 0.5  # seconds between two looks at the workers
ROOT = Path(__file__).parent.parent.parent

Start = Callable[[ExtractConfig, dict[str, str], Path], subprocess.Popen[bytes]]


def work(config: ExtractConfig, todo: int) -> None:
    """Let the processes that a config asks for compute the `todo` shards that are missing.

    What they do not finish the caller computes. One that fails costs a line with what it said last.
    """
    if not todo:
        return
    count = config.processes
    alone = dataclasses.replace(config, workers_on=None, remote="", push=False, explain=False, signers=None)
    with tempfile.TemporaryDirectory(prefix="melcache-workers-") as folder:
        logs = [Path(folder) / f"{place}.log" for place in range(count)]
        workers = [start(alone, _environment(place, count), log) for place, log in enumerate(logs)]
        try:
            _wait(config.folder, workers, todo)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
        for place, (worker, log) in enumerate(zip(workers, logs, strict=True)):
            if worker.returncode:
                said = log.read_text(errors="replace").strip().rpartition("\n")[2]
                say(f"warning: worker {place + 1} of {count} ended with status {worker.returncode}: {said:.500}")


def start(config: ExtractConfig, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a worker, whose output goes to a file."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "extract", *as_words(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
        )


def _wait(folder: Path, workers: list[subprocess.Popen[bytes]], todo: int) -> None:
    """Wait until all workers have ended, and show how many of `todo` shards have come."""
    before = _shards(folder)
    with Progress(todo, f"{len(workers)} workers", "shards") as progress:
        shown = 0
        while any(worker.poll() is None for worker in workers):
            time.sleep(LOOK)
            now = min(todo, len(_shards(folder) - before))
            progress.advance(now - shown)
            shown = now


def _shards(folder: Path) -> set[str]:
    return {name for name in names(folder) if name.endswith(".h5")}


def _environment(place: int, count: int) -> dict[str, str]:
    """Return what a worker's environment says: its share of the cores, and its GPU where there are several."""
    cores = max(1, len(os.sched_getaffinity(0)) // count)
    found = {"OMP_NUM_THREADS": str(cores)}
    if (gpus := _gpus()) and len(gpus) > 1:
        found["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return found


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none are loaded for it."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in given.split(",") if name]
    numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal())
    return [str(place) for place in range(len(numbers))]
