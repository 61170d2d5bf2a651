"""Extraction by several workers: their command line, and how many of the missing shards have come."""

import dataclasses
from collections.abc import Callable, Sequence

from cache.kinds import KINDS
from cache.store import plans
from cache.writing.writer import Todo
from common.options import as_words
from common.output import say
from common.paths import names
from extract.computing import tasks
from extract.computing.tasks import Task
from extract.config import ExtractConfig
from extract.encoders import Encoders
from workers import launch
from workers.engine import Engine
from workers.work import Work

# tasks for each worker (bench.simulation.measured): with fewer, they wait long for the last; with so many, little
FEW, ENOUGH = 14, 28
LEAST = 64  # rows of a range: with 32, WikiMEL would be more shards than a manifest lists


def work(config: ExtractConfig, plan: Callable[[], bytes], todo: Sequence[Todo], encoders: Encoders) -> int | None:
    """Let the workers that a config asks for compute the shards that are missing, by a plan.

    Returns how many they have computed, so that this process goes on with what they have not finished; None where they
    finish without it.
    """
    engine = config.engine
    missing = {shard.file: shard.part.name for item in todo for shard in item.missing}
    if engine is None or not missing:
        return 0
    _advise(config, engine, todo)
    last = dataclasses.replace(config, workers_on=None, slurm="", wait=False, explain=False)
    meets = config.push and config.signers is None
    meeting = {"remote": config.url if meets else "", "push": meets, "signers": None, "require_signed": False}
    alone = dataclasses.replace(last, **meeting)
    file = plans.write(config.folder, plan())
    task = Work(
        "extract",
        tuple(as_words(dataclasses.replace(alone, by_plan=plans.asked_by(file)))),
        tuple(as_words(last)),
        config.folder,
        "shards",
        len(missing),
        lambda: len(missing.keys() & set(names(config.folder))),
    )
    try:
        ended = launch.run(engine, task)
    finally:
        if not task.alone.is_set():  # else they need it for as long as they go on
            file.unlink(missing_ok=True)
    if not ended:
        return None
    left = missing.keys() - set(names(config.folder))
    if any(KINDS[missing[name]].role for name in left):
        where = "its CPU" if encoders.compute.device.type == "cpu" else "its GPU"
        say(
            f"workers have left {len(left):,} of {len(missing):,} shards, which this process computes on {where} in "
            f"{encoders.compute.precision}. Interrupted, the same command lets workers do it"
        )
    return len(missing) - len(left)


def _advise(config: ExtractConfig, engine: Engine, todo: Sequence[Todo]) -> None:
    """Say where there is too little to do for so many workers."""
    if not engine.count:  # as many as the cluster has, which is not known yet
        return
    split = [task for task in tasks.split(todo) if task.missing]
    rows = sum(_rows(task) for task in split)  # of each table as often as a range has tasks
    better = max(LEAST, rows // (ENOUGH * engine.count))
    if len(split) < engine.count * FEW and better < config.shard_rows:
        smaller = f"--shard-rows {better}" if all(item.missing for item in todo) else "a smaller --shard-rows"
        say(
            f"{engine.count} workers share {len(split)} tasks, so that many wait for the last ones. A new cache, of "
            f"another id, with {smaller} has more"
        )


def _rows(task: Task) -> int:
    """Return how many rows the range of a task has, by a part of its table."""
    return next((shard.rows for shard in task.missing if shard.part.name.table == task.table), 0)
