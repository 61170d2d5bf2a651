"""What vectors stored as codes cost a head: bytes, cosines, scores, and Top-1 over paired mentions.

`python -m bench.accuracy.storage --model mel_hi --seeds 0,1,2 shards/wd-float16 shards/wd-int8 shards/wd-int4`:
caches of one extraction that differ in --storage, the first with numbers. Each is trained on; the head that was trained
on the first also reads the others, which shows what codes alone do, and zeros, which shows how much it needs what they
stand for.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import cache
from cache import Reader
from cache.kinds import KINDS, quantizable
from cache.names import ColumnName
from common import console
from train import loop
from train.config import TrainConfig
from train.evaluating.metrics import per_mention, ranks
from train.heads.head_config import HeadConfig
from train.heads.models import built
from train.heads.registry import HEADS
from train.judging.significance import paired_bootstrap
from train.prepare import table_of
from train.run import opened

BATCH, ROWS = 64, 4096


def main() -> None:
    """Train, compare, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy.storage")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--option", action="append", default=[], help="of the head: NAME=INTEGER")
    parser.add_argument("--runs", type=Path, default=Path("runs/storage"))
    parser.add_argument("caches", nargs="+", type=Path)
    given = parser.parse_args()
    seeds = tuple(int(seed) for seed in given.seeds.split(","))
    readers = [cache.open(path) for path in given.caches]
    configs = [
        TrainConfig(
            dataset=str(path),
            model=given.model,
            seeds=seeds,
            epochs=given.epochs,
            run=given.runs / f"{path.name}-{given.model}",
            device="cpu",
        )
        for path in given.caches
    ]
    options = {name: int(value) for name, value in (option.split("=") for option in given.option)}
    head = HEADS[given.model].config(**options)
    for config in configs:
        loop.fit(config, head)
    hits = [hits_of(config) for config in configs]
    rows = [
        vectors(readers[0], reader, given.model)
        | trained(hits[0], own)
        | {"same weights": same_weights(configs[0], head, reader)}
        for reader, own in zip(readers, hits, strict=True)
    ]
    rows.append(dict.fromkeys(rows[0], "") | {"same weights": same_weights(configs[0], head, None)})
    names = [*(reader.path.name for reader in readers), "zeros"]
    console.show(table([{"cache": name} | row for name, row in zip(names, rows, strict=True)]))


def vectors(first: Reader, reader: Reader, head: str) -> dict[str, str]:
    """Return the bytes of the coded columns that a head reads, and how far their vectors are from the first cache's."""
    names = [name for name in HEADS[head].reads if is_coded(name)]
    found = {"bytes": "", "of float32": "", "1 - cosine": "", "error": ""}
    for name in names:
        count = int(np.prod(reader.shape(name)[:-1]))
        held = reader.stored_bytes(name) / count
        cosines, errors = (np.concatenate(side) for side in zip(*distances(first, reader, name), strict=True))
        found["bytes"] += f" {held:.0f}"
        found["of float32"] += f" {held / 4 / reader.shape(name)[-1]:.1%}"
        found["1 - cosine"] += f" {np.mean(1 - cosines):.1e}"
        found["error"] += f" {np.mean(errors):.3f}"
    return {key: value.strip() for key, value in found.items()}


def distances(first: Reader, reader: Reader, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield cosines and relative errors of a column's vectors that are not 0, some rows at a time."""
    ours, theirs = reader.column(name), first.column(name)
    for begin in range(0, len(ours), ROWS):
        a, b = (x[begin : begin + ROWS].astype(np.float64).reshape(-1, x.shape[-1]) for x in (theirs, ours))
        norms = np.linalg.norm(a, axis=1)
        a, b, norms = a[norms > 0], b[norms > 0], norms[norms > 0]
        lengths = np.maximum(np.linalg.norm(b, axis=1), 1e-30)
        yield (a * b).sum(1) / norms / lengths, np.linalg.norm(a - b, axis=1) / norms


def hits_of(config: TrainConfig) -> np.ndarray:
    """Return the expected Top-1 hit of each mention of test, (seeds, n)."""
    files = [load_file(config.run / f"ranks-{seed}.safetensors") for seed in config.seeds]
    return np.stack([per_mention(file["better"], file["tied"], "top1").numpy() for file in files])


def trained(base: np.ndarray, own: np.ndarray) -> dict[str, str]:
    """Return Top-1 of heads trained on a cache, and the difference to those trained on the first, by mention."""
    difference = 100 * (own - base).mean(0)
    low, high, _ = paired_bootstrap(difference[:, None])
    return {
        "Top-1": f"{100 * own.mean():.2f} ± {100 * own.mean(1).std(ddof=1) if len(own) > 1 else 0:.2f}",
        "difference": f"{difference.mean():+.2f} ({low[0]:+.2f} to {high[0]:+.2f})",
    }


@torch.no_grad()
def same_weights(config: TrainConfig, head: HeadConfig, reader: Reader | None) -> str:
    """Return what another storage does to a trained head: Top-1 by the first's weights, and how far scores move.

    The latter is relative to the deviation of a mention's scores. Without a reader, codes are of vectors of zeros.
    """
    tops, moved = [], []
    with opened(config, head) as run:
        other = run.data.table if reader is None else table_of(run.config, run.head, reader, torch.device("cpu"))
        rows = run.data.table.rows("test")
        for seed in config.seeds:
            model = built(run.config, run.head).eval()
            model.load_state_dict(load_file(config.run / f"seed-{seed}.safetensors"), strict=False)
            for group in rows.split(BATCH):
                batches = [data.batch(group) for data in (run.data.table, other)]
                if reader is None:
                    coded = {name: values.mul(0) for name, values in batches[1].columns.items() if is_coded(name)}
                    batches[1] = replace(batches[1], columns=batches[1].columns | coded)
                scores = [model(batch).double() for batch in batches]
                there = batches[0].present
                tops.append(per_mention(*ranks(scores[1], batches[0].gold, there), "top1"))
                spread = masked_deviation(scores[0], there)
                moved.append(((scores[1] - scores[0]).abs() / spread[:, None])[there & (spread > 0)[:, None]])
    return f"{100 * torch.cat(tops).mean():.2f}, scores ± {torch.cat(moved).mean():.3f}"


def is_coded(name: str) -> bool:
    """Whether a column of a batch is one that may be stored as codes."""
    full = ColumnName(name)
    return full.part in KINDS and full.column in quantizable(full.part)


def masked_deviation(scores: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return the deviation of each mention's scores over the candidates that are there, (B, C), (B, C) -> (B,)."""
    count = there.sum(1).clamp(min=1)
    mean = scores.masked_fill(~there, 0).sum(1) / count
    return ((scores - mean[:, None]).masked_fill(~there, 0).square().sum(1) / count).sqrt()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    console.run(lambda prog_name: main(), "python -m bench.accuracy.storage")
