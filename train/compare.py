"""`python -m train compare`: every head that a cache can feed, in one table beside the published numbers."""

from collections.abc import Mapping
from typing import Any

import cache
from common.paths import find_cache
from train import page, plot, published, series, standings
from train.baselines import BASELINES
from train.config import HEADS, CompareConfig
from train.models import MODELS

NAME = "compare"


def known() -> tuple[str, ...]:
    """Return the heads that there are."""
    return tuple(name for name in HEADS if name in MODELS or name in BASELINES)


def compare(config: CompareConfig, heads: Mapping[str, Any]) -> dict[str, Any]:
    """Train what is left of the heads (name: config) and return what compare.json holds; see standings.summarize.

    Raises CacheError for a baseline that the cache cannot feed, ConfigError for a folder of runs with other options.
    """
    series.in_one_process(NAME)
    reader = cache.open(find_cache(config.dataset, config.shards))
    reader.require(config.baseline, getattr(heads[config.baseline], "more", ()))
    dataset = published.dataset_of(config.published, reader.manifest["dataset"]["name"])
    outcomes = series.train(config, [_run(config, model, head) for model, head in heads.items()], reader, NAME)
    found = standings.summarize(config, outcomes, config.baseline)
    for entry in (*found["entries"], *found["not_run"]):
        entry["published"] = published.of_head(dataset, entry["name"], heads[entry["name"]])
    page.write(config.folder, NAME, found, page.as_markdown(f"{found['dataset']}: heads compared", *_content(found)))
    plot.draw(found, config.folder / NAME)
    return found


def show(found: dict[str, Any], config: CompareConfig) -> str:
    """Return the table of a comparison."""
    return page.as_text(*_content(found)) + f"\ndetails in {config.folder}/{NAME}.json, the table in {NAME}.md"


def _run(config: CompareConfig, model: str, head: Any) -> series.Run:
    changes = {"model": model, "fresh": False, "with_lexical": config.with_lexical and head is not None}
    return series.Run(model, series.part(config, config.folder / model, changes), head)


def _content(found: dict[str, Any]) -> tuple[list[page.Section], list[str]]:
    return [page.standing(found, "head")], page.notes(found)
