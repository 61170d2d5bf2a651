"""Contenders in processes of their own that take turns: machine noise hits all of them alike."""

import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

WARM_UP = 3  # turns that are not counted
REST = 0.05  # seconds between turns, until the threads of the one before sleep


@dataclass(frozen=True)
class Race:
    """Seconds of every turn by contender, warm-up left out."""

    seconds: dict[str, list[float]]

    def milliseconds(self, name: str) -> float:
        """Return the median time of a contender."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, name: str, to: str) -> float:
        """Return the median of paired ratios."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True))


def race(contenders: dict[str, list[str]], turns: int, cwd: Path) -> Race:
    """Let commands that speak bench.training.worker's protocol take `turns` turns each, in rounds."""
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd)
        for name, command in contenders.items()
    }
    try:
        for name, process in processes.items():
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{name} did not start")
        seconds: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(turns + WARM_UP):
            for name, process in processes.items():
                time.sleep(REST)
                print("step", file=process.stdin, flush=True)
                seconds[name].append(float(process.stdout.readline()))
        return Race({name: turns[WARM_UP:] for name, turns in seconds.items()})
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
