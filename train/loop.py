"""Train a head on a cache; `fit` is the function to read first."""

import dataclasses
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

import cache
from common import device
from common.errors import ConfigError, NotFiniteError
from common.log import Progress
from common.paths import find_cache
from train import metrics, report
from train.config import TrainConfig
from train.models import MODELS
from train.table import Table


def fit(config: TrainConfig, head: Any) -> dict[str, Any]:
    """Train one head with each seed, test the epoch that was best on valid, and return what results.json holds.

    `head` is the head's config; its widths are taken from the cache. Raises MelcacheError: see common.errors.
    """
    start = time.monotonic()
    reader = cache.open(find_cache(config.dataset, config.shards))
    table = Table(reader, config.model, device.choose(config.device))
    head = dataclasses.replace(
        head,
        text_width=reader.shape("entity.bert.text")[1],
        image_width=reader.shape("entity.resnet.image")[1],
    )
    splits = {name: table.rows(name) for name in ("train", "valid", "test")}
    trained = table.trainable(splits["train"])
    for name, rows in (splits | {"train": trained}).items():
        if not len(rows):
            raise ConfigError(f"{reader.path} has no mention to use in its {name} split")
    baseline = {name: lexical(table, rows) for name, rows in splits.items()}
    seeds = []
    steps = math.ceil(len(trained) / config.batch) * config.epochs * len(config.seeds)
    with Progress(steps, config.model, "steps") as progress:
        for seed in config.seeds:
            seeds.append(fit_seed(config, head, table, trained, splits, seed, progress))
    results = report.results(config, head, reader, baseline, seeds, time.monotonic() - start)
    report.save(config.folder, results, seeds)
    return results


def fit_seed(
    config: TrainConfig,
    head: Any,
    table: Table,
    trained: Tensor,
    splits: dict[str, Tensor],
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Train one seed; return its metrics, its history and the weights of its best epoch (earliest wins)."""
    start = time.monotonic()
    torch.manual_seed(seed)
    model = MODELS[config.model](head).to(table.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    order = torch.Generator().manual_seed(seed)
    best: dict[str, Any] = {"top1": -1.0}
    history = []
    for epoch in range(1, config.epochs + 1):
        shuffled = trained[torch.randperm(len(trained), generator=order).to(table.device)]
        loss = run_epoch(model, optimizer, table, shuffled, config.batch, progress)
        valid = evaluate(model, table, splits["valid"], config.batch)
        history.append({"epoch": epoch, "loss": loss, "valid": valid})
        if valid["top1"] > best["top1"]:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            best = {"top1": valid["top1"], "epoch": epoch, "state": state, "valid": valid}
    model.load_state_dict(best["state"])
    return {
        "seed": seed,
        "epoch": best["epoch"],
        "valid": best["valid"],
        "test": evaluate(model, table, splits["test"], config.batch),
        "seconds": round(time.monotonic() - start, 2),
        "history": history,
        "state": best["state"],
    }


def run_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, table: Table, rows: Tensor, size: int, progress: Progress
) -> float:
    """Take one pass over `rows` (n,) in order; return the mean loss.  Raises NotFiniteError."""
    model.train()
    total = torch.zeros((), device=table.device)
    for begin in range(0, len(rows), size):
        batch = table.batch(rows[begin : begin + size])
        loss = model.loss(model(batch), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch.gold)
        progress.advance()
    mean = float(total) / len(rows)  # the only wait for the device in an epoch
    if not math.isfinite(mean):
        raise NotFiniteError(f"the training loss became {mean}. Try a smaller --learning-rate")
    return mean


@torch.no_grad()
def evaluate(model: nn.Module, table: Table, rows: Tensor, size: int) -> dict[str, float]:
    """Return the metrics of a split, ties in expectation."""
    model.eval()
    found = [metrics.ranks(model(batch), batch.gold, batch.present) for batch in map(table.batch, rows.split(size))]
    return metrics.summarize(torch.cat([better for better, _ in found]), torch.cat([tied for _, tied in found]))


def lexical(table: Table, rows: Tensor) -> dict[str, float]:
    """Return the metrics of the first stage's string score alone: no context, no picture, no training."""
    return metrics.summarize(*metrics.ranks(table.lexical[rows], table.gold[rows], table.present[rows]))
