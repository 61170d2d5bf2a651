"""One contender of a benchmark in its own process: prints `ready`, then the seconds of a step for each line read."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import cache
from bench.training.authors import Inputs, Literal
from bench.training.dense import Dense
from common import devices
from train.data.batch import Batch
from train.data.table import Table
from train.heads.base import Head
from train.heads.drin.config import DrinConfig
from train.heads.drin.model import Drin
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.drin_authors.model import DrinAuthors
from train.optimizing.adam import Adam, Schedule
from train.optimizing.stacked_seeds import Stack
from train.optimizing.step import CapturedStep, Step
from train.processes import World

BATCH = 64
CONTENDERS = (
    "melcache",
    "dense",
    "dense-kept",
    "together",
    "one-by-one",
    "authors",
    "authors-literal",
    "authors-reading",
)
PLAIN = ("dense", "authors-literal", "authors-reading")  # without our allocator setting
AUTHORS = DrinAuthorsConfig(entity_vector="text")  # the column that the benchmarks' caches have


def new_drin() -> Drin:
    """Return DRIN at full size."""
    return Drin(DrinConfig())


def new_drin_authors() -> DrinAuthors:
    """Return the authors' DRIN at full size."""
    return DrinAuthors(AUTHORS)


def table_of(path: Path, kind: str, device: torch.device) -> Table:
    """Return the columns that a contender reads."""
    authors = kind.startswith("authors")
    return Table(cache.open(path), "drin_authors" if authors else "drin", device, more=AUTHORS.more if authors else ())


def melcache_step(
    table: Table, seeds: tuple[int, ...], precision: str, new: Callable[[], Head] = new_drin
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the trainer's step on mention rows (B,) or (S, B): gather, forward, backward, Adam."""
    stack = Stack(new, seeds, table.device)
    adam = Adam(list(stack.parameters.values()), Schedule(1e-3))
    step = Step(stack, adam, World(), precision)
    if table.device.type == "cuda":
        captured = CapturedStep(step, table, [*stack.parameters.values(), *adam.state().values()])
        return lambda rows: captured(rows, 1.0)
    return lambda rows: step(table.batch(rows), 1.0)


def dense_step(table: Table, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a plain PyTorch step of the literal graph, on a batch that is ready: no gather is counted."""
    torch.manual_seed(0)
    model = Dense(new_drin())
    return plain_step(table, precision, model, model.model)


def literal_step(table: Table, precision: str, *, reads: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a plain PyTorch step of the authors' graph, on a batch that is ready or as they read it."""
    torch.manual_seed(0)
    model = Literal(new_drin_authors())
    head, tokens = model.head, table.candidates.shape[1] >= 100  # as for WikiMEL
    inputs = Inputs(tokens, head.config.text_width, head.config.image_width) if reads else None
    return plain_step(table, precision, model, head, inputs)


def plain_step(
    table: Table, precision: str, model: nn.Module, head: Head, inputs: Inputs | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a step of plain PyTorch with a head's loss."""
    model = model.to(table.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    ready: list[Batch] = []

    def step(rows: torch.Tensor) -> torch.Tensor:
        if not ready:
            ready.append(table.batch(rows))
        batch = ready[0] if inputs is None else inputs.read(ready[0])
        optimizer.zero_grad(set_to_none=True)
        loss = head.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
        return loss

    return step


def steps(kind: str, table: Table, precision: str) -> Callable[[torch.Tensor], object]:
    """Return what one turn of a contender does with rows (5, B)."""
    if kind.startswith("dense"):
        dense = dense_step(table, precision)
        return lambda rows: dense(rows[0])
    if kind.startswith("authors-"):
        literal = literal_step(table, precision, reads=kind == "authors-reading")
        return lambda rows: literal(rows[0])
    if kind == "authors":
        head = melcache_step(table, (0,), precision, new_drin_authors)
        return lambda rows: head(rows[0])
    if kind == "together":
        return melcache_step(table, (0, 1, 2, 3, 4), precision)
    one = melcache_step(table, (0,), precision)
    return (lambda rows: [one(row) for row in rows]) if kind == "one-by-one" else (lambda rows: one(rows[0]))


def main() -> None:
    """Serve steps until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=CONTENDERS)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1, help="steps one after the other in a turn")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    devices.use_threads(given.threads)
    if given.kind not in PLAIN and given.device == "cpu":
        devices.keep_freed_memory()
    device = torch.device(given.device)
    table = table_of(given.cache, given.kind, device)
    step = steps(given.kind, table, "tf32" if device.type == "cuda" else "float32")
    rows, order = table.trainable(table.rows("train")), torch.Generator().manual_seed(0)
    print("ready", flush=True)
    for _ in sys.stdin:
        taken = [rows[torch.randperm(len(rows), generator=order)[: 5 * BATCH]] for _ in range(given.steps)]
        start = time.perf_counter()
        for some in taken:
            step(some.view(5, BATCH).to(device))
        if device.type == "cuda":
            torch.cuda.synchronize()
        print((time.perf_counter() - start) / given.steps, flush=True)


if __name__ == "__main__":
    main()
