"""A run that is over: the cache that it was trained on."""

import json
from pathlib import Path

import cache
from cache import Reader
from common.errors import ConfigError
from common.paths import find_cache
from train.config import ExplainConfig, SlicesConfig


def cache_of(config: ExplainConfig | SlicesConfig, wanted: str) -> Reader:
    """Open the cache of a run, where its results.json or `config` says that it is.

    Raises ConfigError if nothing says where, or its id is not the one `wanted`.
    """
    try:
        used = json.loads((config.run / "results.json").read_text())["config"]
    except (OSError, ValueError, KeyError):
        used = {"dataset": config.dataset, "shards": config.shards}
    dataset, shards = config.dataset or used["dataset"], config.shards or used["shards"]
    if dataset is None or shards is None:
        raise ConfigError(f"{config.run} has no results.json yet: say where its cache is with --dataset and --shards")
    reader = cache.open(find_cache(dataset, Path(shards)))
    if reader.id != wanted:
        raise ConfigError(f"{reader.path} has id {reader.id[:16]}..., but the run was trained on {wanted[:16]}...")
    return reader
