"""`melcache compare`: every head that a cache can feed, in one table beside the published numbers."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cache
from cache import Reader
from common.errors import CacheError
from common.paths import find_cache
from train.config.studies import CompareConfig
from train.dividing.division import ALONE, Division
from train.evaluating import protocols
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.studies import divided, plot, published, runs, summary, tables

NAME = "compare"


@dataclass(frozen=True)
class Planned:
    """A comparison on one cache before anything is trained: its heads, `base` among them, and their runs."""

    config: CompareConfig
    reader: Reader
    heads: dict[str, HeadConfig | None]
    base: str
    dataset: str | None
    runs: tuple[runs.Variant, ...]


def compare(
    config: CompareConfig, heads: Mapping[str, HeadConfig | None], division: Division = ALONE
) -> dict[str, Any] | None:
    """Train what is left of the heads (name: config) and return what compare.json holds; see summary.summarize.

    The baseline is added if it is none of the heads; then it has no weights. None where the `division` leaves the
    result to others. Raises CacheError for a head that the cache cannot feed, ConfigError for a folder of runs with
    other options.
    """
    plan = planned(config, heads)
    work = divided.Runs(config.folder, NAME, [(run, plan.reader) for run in plan.runs])
    if not division.ahead(work, fresh=config.fresh):
        return None
    found = measured(plan, division)[0]
    division.done(config.folder)
    return found


def planned(config: CompareConfig, heads: Mapping[str, HeadConfig | None]) -> Planned:
    """Return what there is to do on one cache.  Raises as `compare`."""
    runs.in_one_process(NAME)
    reader = cache.open(find_cache(config.dataset, config.shards))
    base = config.baseline or _baseline(config, heads, reader)
    heads = ({} if base in heads else {base: None}) | dict(heads)
    HEADS[base].require(reader, heads[base])
    dataset = published.dataset_of(config.published, reader.manifest.dataset.name)
    return Planned(
        config, reader, heads, base, dataset, tuple(_run(config, model, head) for model, head in heads.items())
    )


def measured(plan: Planned, division: Division) -> tuple[dict[str, Any], list[runs.Outcome]]:
    """Return what `compare` returns, and what became of each run."""
    config, reader, heads, dataset = division.rest(plan.config), plan.reader, plan.heads, plan.dataset
    outcomes = runs.train(config, plan.runs, reader, NAME, division)
    found = summary.summarize(config, outcomes, plan.base, reader)
    for entry in (*found["entries"], *found["not_run"]):
        entry["published"] = published.of_head(dataset, entry["name"], heads[entry["name"]], found["protocol"][0])
    found["systems"] = published.of_systems(dataset, found["protocol"][0])
    published.mark(found, *found["systems"])
    tables.write(
        config.folder, NAME, found, tables.as_markdown(f"{found['dataset']}: heads compared", *_content(found))
    )
    plot.draw(found, config.folder / NAME)
    return found, outcomes


def show(found: dict[str, Any], config: CompareConfig, *, marked: bool = False) -> str:
    """Return the table of a comparison; `marked` as tables.standing has it."""
    sections, notes = _content(found, marked=marked)
    return (
        tables.as_text(sections, [*([tables.signs(found)] if marked else []), *notes])
        + f"\ndetails in {config.folder}/{NAME}.json, the table in {NAME}.md"
    )


def _baseline(config: CompareConfig, heads: Mapping[str, HeadConfig | None], reader: Reader) -> str:
    """Return the head that ranks the same entities as the most of `heads`, of several the first, without weights."""
    untrained = [name for name, entry in HEADS.items() if entry.config is None]
    ranked = {}
    for name in dict.fromkeys([*untrained, *heads]):
        with contextlib.suppress(CacheError):
            HEADS[name].require(reader, heads.get(name))
            ranked[name] = protocols.ranking_of(_run(config, name, heads.get(name)).config).among
    among = Counter(ranked[name] for name in heads if name in ranked and name != "lexical")  # its list is its own
    return max(ranked, key=lambda name: among[ranked[name]])


def _run(config: CompareConfig, model: str, head: HeadConfig | None) -> runs.Variant:
    changes = {"model": model, "fresh": False}
    if head is None:  # nothing is learned
        changes |= {"with_lexical": False, "objective": "own", "hardest": 0}
    return runs.Variant(model, runs.part(config, config.folder / model, changes), head)


def _content(found: dict[str, Any], *, marked: bool = False) -> tuple[list[tables.Section], list[str]]:
    return [
        tables.standing(found, "head", marked=marked),
        *tables.on_ambiguous(found, "head", marked=marked),
        *tables.systems(found),
    ], tables.notes(found)
