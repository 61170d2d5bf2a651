"""Workers of an engine that write down what they begin, and wait before they end while something happens to them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from common.paths import names
from torture.clusters.tiny_worker import gate_of

SECONDS = 300.0  # for what is waited for


class Worker(NamedTuple):
    """A worker that has begun: its process, and where it runs in Slurm."""

    pid: int
    job: str
    place: str
    node: str


class Watched:
    """Commands at once in one folder, each of them a launcher whose workers write to a record."""

    def __init__(self, folder: Path, made: str, launchers: Sequence[Callable[[], object]]) -> None:
        folder.mkdir(parents=True)
        self.place, self.record, self.alone = folder / made, folder / "record", folder.parent / f"{folder.name}-alone"
        self.record.touch()
        self.alone.mkdir()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=launcher) for launcher in launchers]

    def __enter__(self) -> Self:
        """Start the launchers; no worker ends before the block has."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until they have ended."""
        gate_of(self.record).touch()
        for thread in self._threads:
            thread.join(SECONDS)
            if thread.is_alive():
                self.failures.append(f"not at its end after {SECONDS:.0f} s")

    def until(self, happened: Callable[[], object]) -> None:
        """Wait for something.  Raises TimeoutError."""
        ends = time.monotonic() + SECONDS
        while not happened():
            if time.monotonic() > ends or not any(thread.is_alive() for thread in self._threads):
                raise TimeoutError("; ".join(["what the trial waits for has not happened", *self.failures]))
            time.sleep(0.05)

    @property
    def begun(self) -> int:
        """How many processes have begun."""
        return len(self.lines("start"))

    def left(self) -> list[str]:
        """Return what has been left behind."""
        hidden = [name for folder in (self.place, self.place.parent) for name in names(folder) if name.startswith(".")]
        alive = [pid for _, pid, *_ in self.lines("start") if Path(f"/proc/{pid}").exists()]
        return [*([f"left behind: {hidden}"] if hidden else []), *([f"alive: {alive}"] if alive else [])]

    def lines(self, kind: str) -> list[list[str]]:
        """Return the lines of a kind that the workers have written down, as words."""
        return [line.split() for line in self.record.read_text().splitlines() if line.startswith(kind)]


def kill(worker: Worker) -> None:
    """Kill a worker's process."""
    os.kill(worker.pid, signal.SIGKILL)
