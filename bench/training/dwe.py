"""`python -m bench.training.dwe`: a training step of DWE's heads at real widths, and the same step as a plain program.

Contenders take turns in processes of their own (bench.measuring.processes), on a batch that is ready: no gather is
counted.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.measuring.processes import race
from bench.training.plain_dwe import Plain
from common import console, devices
from train.data.batch import Batch
from train.heads import registry
from train.heads.models import MODELS
from train.optimizing.adam import Adam, Schedule

ROOT = Path(__file__).parents[2]
HEADS, CONTENDERS = ("dwe", "dwe_authors"), ("melcache", "plain")
B, C, K, T, P = 128, 100, 3, 77, 512
STEPS = 2  # of a turn
SCHEDULE = Schedule(5e-5, warm_up=100, decay_to=10_000, weight_decay=1e-3, clip_norm=1.0)


def random_batch() -> Batch:
    """Return a batch of 128 mentions with 100 candidates, 3 objects and 77 tokens; random numbers, all there."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(B, *shape, P, generator=generator)

    vectors = {f"mention.joint.{name}": normal() for name in ("mention", "mention_sentence", "image")}
    vectors |= {"mention.crops.vector": normal(K), "mention.attributes.faces": normal(K)}
    vectors |= {"mention.attributes.scene": normal(), "joint_token.joint.vector": normal(T)}
    vectors |= {"entity.joint.text": normal(C)}
    there = {
        "mention.joint.present": torch.ones(B, dtype=torch.bool),
        "joint_token.joint.present": torch.ones(B, T, dtype=torch.bool),
        "mention.crops.labels": torch.ones(B, K, dtype=torch.int32),
        "pair.candidates.lexical": torch.rand(B, C, generator=generator),
    }
    return Batch(vectors | there, torch.ones(B, C, dtype=torch.bool), torch.arange(B) % C)


def step_of(name: str, kind: str) -> Callable[[], Tensor]:
    """Return a training step of a head: forward, backward, clipping, AdamW."""
    torch.manual_seed(0)
    head = MODELS[name](registry.HEADS[name].config())
    model, batch = Plain(head) if kind == "plain" else head, random_batch()
    adam = Adam(list(model.parameters()), SCHEDULE)

    def step() -> Tensor:
        adam.zero_grad()
        loss = model.objective(batch)
        loss.backward()
        adam.step()
        return loss

    return step


def serve(name: str, kind: str, threads: int) -> None:
    """Take a turn for each line of standard input and print its seconds per step (bench.training.worker's protocol)."""
    devices.use_threads(threads)
    devices.keep_freed_memory()
    step = step_of(name, kind)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        print((time.perf_counter() - start) / STEPS, flush=True)


def main() -> None:
    """Race both heads and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.dwe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--serve", nargs=2, metavar=("HEAD", "KIND"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve, given.threads)
        return
    console.show("| head | GFLOP | plain's | ms | plain's | times faster |\n| --- | --- | --- | --- | --- | --- |")
    for name in HEADS:
        command = [sys.executable, "-m", "bench.training.dwe", "--threads", str(given.threads), "--serve", name]
        found = race({kind: [*command, kind] for kind in CONTENDERS}, given.turns, ROOT)
        counted = []
        for kind in CONTENDERS:
            step = step_of(name, kind)
            with FlopCounterMode(display=False) as operations:
                step()
            counted.append(f"{operations.get_total_flops() / 1e9:.1f}")
        took = [f"{found.milliseconds(kind):.0f}" for kind in CONTENDERS]
        cells = (name, *counted, *took, f"{found.ratio('plain', 'melcache'):.2f}")
        console.show(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    console.run(lambda prog_name: main(), "python -m bench.training.dwe")
