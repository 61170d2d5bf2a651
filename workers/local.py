"""`--workers-on local:N`: N workers on this machine, one for each GPU where there are several."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common.output import say
from workers.engine import Engine
from workers.keeper import with_parent
from workers.work import Coming, Work, command, last_line, python_path, tell_failed

LOOK = 0.5  # seconds between two looks at the workers
PATIENCE = 10.0  # seconds from SIGTERM to SIGKILL


def run(engine: Engine, work: Work) -> None:
    """Let processes work until all have ended.  One that fails costs a line with what it said last."""
    count = engine.count
    if count > _cores() and not _gpus():
        say(f"{count} workers share {_cores()} cores, and no GPU: {_cores()} would be as fast at least")
    with tempfile.TemporaryDirectory(prefix="melcache-workers-") as folder:
        logs = [Path(folder) / f"{place}.log" for place in range(count)]
        words = command(work.module, work.words)
        workers: list[subprocess.Popen[bytes]] = []
        try:
            for place, log in enumerate(logs):
                workers.append(start(words, _environment(place, count), log))
            _wait(workers, work)
        finally:
            end(workers)
        for place, (worker, log) in enumerate(zip(workers, logs, strict=True)):
            if worker.returncode:
                tell_failed(place, count, worker.returncode, last_line(log))


def start(words: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a worker, whose output goes to a file, and which ends with this process."""
    with log.open("wb") as out:
        return subprocess.Popen(
            with_parent(words),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment, "PYTHONPATH": python_path()},
        )


def end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Bid processes end, and end those that do not within PATIENCE."""
    for worker in workers:
        worker.terminate()
    last = time.monotonic() + PATIENCE
    for worker in workers:
        try:
            worker.wait(max(0, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _wait(workers: list[subprocess.Popen[bytes]], work: Work) -> None:
    """Wait until all workers have ended, and show how much has come of what there is to do."""
    with Coming(work, f"{len(workers)} workers") as coming:
        while any(worker.poll() is None for worker in workers):
            time.sleep(LOOK)
            coming.look()


def _environment(place: int, count: int) -> dict[str, str]:
    """Return what a worker's environment says: its share of the cores, and its GPU where there are several."""
    cores = max(1, _cores() // count)
    found = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores)}
    if (gpus := _gpus()) and len(gpus) > 1:
        found["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return found


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none are loaded for it."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in given.split(",") if name]
    numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal())
    return [str(place) for place in range(len(numbers))]
