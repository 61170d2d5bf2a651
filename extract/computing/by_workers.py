"""Extraction by several workers: their command line, and how many of the missing shards have come."""

import dataclasses

from common.options import as_words
from common.paths import names
from extract.config import ExtractConfig
from workers import launch
from workers.work import Work


def work(config: ExtractConfig, todo: int) -> bool:
    """Let the workers that a config asks for compute the `todo` shards that are missing.

    Returns whether to go on, and compute what they have not finished; False where they finish without this process.
    """
    engine = config.engine
    if engine is None:
        return True
    last = dataclasses.replace(config, workers_on=None, explain=False)
    alone = dataclasses.replace(last, remote="", push=False, signers=None, require_signed=False)
    before = _shards(config)
    task = Work(
        "extract",
        tuple(as_words(alone)),
        tuple(as_words(last)),
        config.folder,
        "shards",
        todo,
        lambda: len(_shards(config) - before),
    )
    return launch.run(engine, task)


def _shards(config: ExtractConfig) -> set[str]:
    return {name for name in names(config.folder) if name.endswith(".h5")}
