"""Workers of an engine on a tiny cache while something happens to them, and what must hold when they have ended."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from cache.reader import Reader
from common.errors import MelcacheError
from common.paths import names
from torture.clusters import tiny_worker
from torture.clusters.tiny_worker import RANGES, SHARDS
from workers import launch
from workers.engine import Engine
from workers.work import Work

SECONDS = 300.0  # for what is waited for
RANGE_SECONDS = 0.2


class Worker(NamedTuple):
    """A worker that has begun: its process, and where it runs in Slurm."""

    pid: int
    job: str
    place: str
    node: str


class Trial:
    """Extractions at once by engines, in one folder."""

    def __init__(self, folder: Path, seed: int, *engines: Engine) -> None:
        folder.mkdir(parents=True)
        self.seed, self._place, self._record = seed, folder / "tiny", folder / "record"
        self._record.touch()
        self._gate = tiny_worker.gate_of(self._record)
        self._alone = folder.parent / f"{folder.name}-alone"
        self._alone.mkdir()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._launch, args=(engine,)) for engine in engines]

    def __enter__(self) -> Self:
        """Start the engines; no worker ends before the block has."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until they have ended."""
        self._gate.touch()
        for thread in self._threads:
            thread.join(SECONDS)
            if thread.is_alive():
                self.failures.append(f"not at its end after {SECONDS:.0f} s")

    def workers(self, count: int) -> list[Worker]:
        """Wait until so many workers, and one range of each, have begun; return the workers."""
        self.until(lambda: len(self._lines("start")) >= count and len(self._lines("range")) >= count)
        return [Worker(int(pid), *more) for _, pid, *more in self._lines("start")]

    def until(self, happened: Callable[[], object]) -> None:
        """Wait for something.  Raises TimeoutError."""
        ends = time.monotonic() + SECONDS
        while not happened():
            if time.monotonic() > ends or not any(thread.is_alive() for thread in self._threads):
                raise TimeoutError("; ".join(["what the trial waits for has not happened", *self.failures]))
            time.sleep(0.05)

    def problems(self, workers: int) -> list[str]:
        """Return what is wrong: with the cache, with how much was computed by so many workers, with what is left."""
        tiny_worker.gate_of(self._alone / "record").touch()
        expected = tiny_worker.work(self._alone / "tiny", self.seed, self._alone / "record", 0)
        found = list(self.failures)
        if (identity := Reader(self._place).id) != expected:
            found.append(f"the id is {identity[:12]}, that of one worker {expected[:12]}")
        if not RANGES <= (computed := len(self._lines("range"))) <= RANGES + workers:
            found.append(f"{computed} ranges computed; {RANGES} there are, for {workers} workers")
        left = [name for folder in (self._place, self._place.parent) for name in names(folder) if name.startswith(".")]
        alive = [worker.pid for worker in self.workers(0) if Path(f"/proc/{worker.pid}").exists()]
        return [*found, *([f"left behind: {left}"] if left else []), *([f"alive: {alive}"] if alive else [])]

    @property
    def begun(self) -> int:
        """How many workers have begun."""
        return len(self._lines("start"))

    def _launch(self, engine: Engine) -> None:
        words = (str(self._place), str(self.seed), str(self._record), str(RANGE_SECONDS))
        work = Work("torture.clusters.tiny_worker", words, words, self._place, "shards", SHARDS, self._look)
        try:
            if not launch.run(engine, work):
                self.failures.append("the launcher has not waited")
        except MelcacheError as error:
            self.failures.append(str(error))

    def _look(self) -> int:
        return sum(name.endswith(".h5") for name in names(self._place))

    def _lines(self, kind: str) -> list[list[str]]:
        return [line.split() for line in self._record.read_text().splitlines() if line.startswith(kind)]


def kill(worker: Worker) -> None:
    """Kill a worker's process."""
    os.kill(worker.pid, signal.SIGKILL)
