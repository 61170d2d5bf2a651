"""CPU seconds of starting: `import torch`, a run's start-up, and --help, taking turns."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cache.writing.synth import Synthetic, write

ROOT = Path(__file__).parents[2]


def cpu_seconds(command: list[str]) -> float:
    """Return user and system time of a process and its children."""
    before = os.times()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure(turns: int) -> dict[str, float]:
    """Return median CPU seconds; `run_ratio` is that of a whole run on a tiny cache to `import torch`, paired."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "tiny", Synthetic(40, 20, 4, 0.5, 0, text_width=8, image_width=8))
        train, small = [python, "-m", "train"], ["--epochs", "1", "--width", "8", "--threads", "1", "--fresh"]
        run = [*train, "--dataset", f"{folder}/tiny", "--run", f"{folder}/run", *small]
        commands = {"torch": [python, "-c", "import torch"], "run": run, "help": [*train, "--help"]}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(turns + 1):
            for name, command in commands.items():
                took = cpu_seconds(command)
                if turn:
                    found[name].append(took)
    ratios = [a / b for a, b in zip(found["run"], found["torch"], strict=True)]
    return {name: statistics.median(took) for name, took in found.items()} | {"run_ratio": statistics.median(ratios)}
