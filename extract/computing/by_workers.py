"""Extraction by several workers: their command line, and how many of the missing shards have come."""

import dataclasses
from collections.abc import Callable, Sequence

from cache.store import plans
from cache.writing.writer import Todo
from common.options import as_words
from common.output import say
from common.paths import names
from extract.computing import tasks
from extract.config import ExtractConfig
from workers import launch
from workers.work import Work

FEW, ENOUGH = 2, 7  # tasks for each worker: with fewer, one waits long for the last; with so many, little


def work(config: ExtractConfig, plan: Callable[[], bytes], todo: Sequence[Todo]) -> bool:
    """Let the workers that a config asks for compute the shards that are missing, by a plan.

    Returns whether to go on, and compute what they have not finished; False where they finish without this process.
    """
    engine = config.engine
    missing = sum(len(item.missing) for item in todo)
    if engine is None or not missing:
        return True
    count = sum(bool(task.missing) for task in tasks.split(todo))
    if count < engine.count * FEW:
        better = max(1, config.shard_rows * count // (ENOUGH * engine.count))
        smaller = f"--shard-rows {better}" if all(item.missing for item in todo) else "a smaller --shard-rows"
        say(
            f"{engine.count} workers share {count} tasks, so that some may have nothing to do. A new cache with "
            f"{smaller} has more"
        )
    last = dataclasses.replace(config, workers_on=None, slurm="", wait=False, explain=False)
    meets = config.push and config.signers is None
    meeting = {"remote": config.url if meets else "", "push": meets, "signers": None, "require_signed": False}
    alone = dataclasses.replace(last, **meeting)
    file = plans.write(config.folder, plan())
    before, gone = _shards(config), False
    task = Work(
        "extract",
        tuple(as_words(dataclasses.replace(alone, by_plan=plans.asked_by(file)))),
        tuple(as_words(last)),
        config.folder,
        "shards",
        missing,
        lambda: len(_shards(config) - before),
    )
    try:
        ended = launch.run(engine, task)
    except KeyboardInterrupt:
        gone = engine.kind == "slurm"
        raise
    else:
        gone = not ended
    finally:
        if not gone:  # else they need it for as long as they go on
            file.unlink(missing_ok=True)
    return ended


def _shards(config: ExtractConfig) -> set[str]:
    return {name for name in names(config.folder) if name.endswith(".h5")}
