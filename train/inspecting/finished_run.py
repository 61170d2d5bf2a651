"""A run that is over: its results.json, and the cache that it was trained on."""

from pathlib import Path
from typing import Any

import cache
from cache import Reader
from common.errors import ConfigError
from common.paths import find_cache
from train.config.inspecting import ExplainConfig, SlicesConfig
from train.config.judging import PredictConfig
from train.run_folder import run_files, run_schema


def results_of(run: Path) -> dict[str, Any] | None:
    """Return the checked content of a run's results.json, None if there is none.  Raises ConfigError."""
    path = run / run_files.RESULTS
    found = run_files.read_json(path)
    with run_files.naming(path):
        return None if found is None else run_schema.results(found)


def cache_of(config: ExplainConfig | SlicesConfig | PredictConfig, wanted: str) -> Reader:
    """Open the cache of a run; `config` says where it is, or else results.json.

    Raises ConfigError if nothing says where, or its id is not the one `wanted`.
    """
    dataset, shards = config.dataset, config.shards
    if dataset is None or shards is None:
        if (found := results_of(config.run)) is None:
            raise ConfigError(
                f"{config.run} has no results.json yet: say where its cache is with --dataset and --shards"
            )
        dataset, shards = dataset or found["config"]["dataset"], shards or found["config"]["shards"]
    reader = cache.open(find_cache(dataset, Path(shards)))
    if reader.id != wanted:
        raise ConfigError(f"{reader.path} has id {reader.id[:16]}..., but the run was trained on {wanted[:16]}...")
    return reader
