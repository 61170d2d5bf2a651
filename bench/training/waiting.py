"""`python -m bench.training.waiting`: a training step whose waiting threads sleep, and one whose threads spin.

Contenders take turns in processes of their own (bench.measuring.processes), alone and beside one busy neighbor for
each core.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import cache
from bench.measuring.processes import race
from bench.training.worker import BATCH, melcache_step
from cache.writing.synth import Synthetic, write
from common import devices
from train.data.table import Table
from train.heads.drin.config import DrinConfig
from train.heads.drin.model import Drin

ROOT = Path(__file__).parents[2]
WORK = ROOT / "runs" / "bench"
MODES = {"sleeping": [], "spinning": ["GOMP_SPINCOUNT=300000"]}  # 3 ms, what an unset OMP_WAIT_POLICY means
SIZES = {  # mentions, entities, candidates, text and image width; width of the head; steps of a turn
    "demo": (Synthetic(600, 120, 5, 0.5, 0, text_width=32, image_width=32), 128, 50),
    "wikidiverse": (Synthetic(2_000, 4_000, 10, 0.5, 0), 768, 1),
}


def serve(name: str) -> None:
    """Take a turn for each line of standard input and print its seconds per step (bench.training.worker's protocol)."""
    devices.use_threads(0)
    devices.keep_freed_memory()
    sizes, width, steps = SIZES[name]
    config = DrinConfig(width=width, text_width=sizes.text_width, image_width=sizes.image_width)
    table = Table(cache.open(WORK / f"waiting-{name}"), "drin", torch.device("cpu"))
    step = melcache_step(table, (0,), "float32", lambda: Drin(config))
    rows, order = table.trainable(table.rows("train")), torch.Generator().manual_seed(0)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(steps):
            step(rows[torch.randperm(len(rows), generator=order)[:BATCH]])
        print((time.perf_counter() - start) / steps, flush=True)


@contextmanager
def neighbors(count: int) -> Iterator[None]:
    """Keep `count` processes busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Race both kinds at both sizes, alone and beside busy neighbors, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.waiting")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--serve", choices=SIZES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    print("| size | neighbors | sleeping_ms | spinning_ms | spinning_ratio |\n| --- | --- | --- | --- | --- |")
    for name, (sizes, _, _) in SIZES.items():
        if not (WORK / f"waiting-{name}" / "manifest.json").exists():
            write(WORK / f"waiting-{name}", sizes)
        command = [sys.executable, "-m", "bench.training.waiting", "--serve", name]
        for count in (0, len(os.sched_getaffinity(0))):
            with neighbors(count):
                found = race({kind: ["env", *setting, *command] for kind, setting in MODES.items()}, given.turns, ROOT)
            took = " | ".join(f"{found.milliseconds(kind):.1f}" for kind in MODES)
            print(f"| {name} | {count} | {took} | {found.ratio('spinning', 'sleeping'):.2f} |", flush=True)


if __name__ == "__main__":
    main()
