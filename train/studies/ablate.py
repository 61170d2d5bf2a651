"""`python -m train ablate`: a head without each of its parts, beside the numbers of its paper, and what heads cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cache
from cache import Reader
from cache.schema import EDGES
from common.errors import CacheError, ConfigError
from common.paths import find_cache
from train import results
from train.config import AblateConfig
from train.studies import costs, published, runs, summary, tables

NAME, FULL, SHORT_TEXT = "ablate", "full", "without Wikipedia text"
LAYERED = {f"layers {layers}": layers for layers in (1, 2, 3, 4, 5)}
# head: what the full one takes beside its defaults, and what each variant changes of that
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "drin": (
        {},
        {
            **{f"without {gone}": {"edges": tuple(edge for edge in EDGES if edge != gone)} for gone in EDGES[::-1]},
            "static edges": {"static": True},
            **{name: {"layers": layers} for name, layers in LAYERED.items()},
        },
    ),
    "dwe": (
        {"entity_text": "description"},
        {
            SHORT_TEXT: {"entity_text": "text"},
            "without alignment loss": {"alignment_weight": 0.0},
            "raw visual features": {"refine": False},
        },
    ),
}


def ablate(config: AblateConfig, heads: Mapping[str, Any]) -> dict[str, Any]:
    """Train what is left of the variants of `config.model` and return what ablate.json holds.

    That is what summary.summarize returns, `layers` (DRIN Table 4) and `costs` of all `heads` (name: config).
    Raises ConfigError for a head without ablations, and for an option that its ablation varies.
    """
    runs.in_one_process(NAME)
    reader = cache.open(find_cache(config.dataset, config.shards))
    dataset = published.dataset_of(config.published, reader.manifest["dataset"]["name"])
    variants, lacking = _variants(config.model, heads, reader)
    outcomes = runs.train(config, [_run(config, name, head) for name, head in variants.items()], reader, NAME)
    found = summary.summarize(config, outcomes, FULL)
    found |= {"model": config.model, "head": results.name_of(config, variants[FULL])}
    found["not_run"] += lacking
    for entry in (*found["entries"], *found["not_run"]):
        entry["head"] = entry["name"]
        head, letter = variants.get(entry["name"]), found["protocol"][0]
        entry["published"] = _published(dataset, config.model, entry["name"], head, letter)
    found["layers"] = _layers(dataset, config.model, variants)
    published.mark(found, *(number for row in found["layers"] for number in (row["published"] or {}).values()))
    found["costs"] = costs.count_all(reader, heads)
    title = f"{found['dataset']}: {found['head']} without its parts"
    tables.write(config.folder, NAME, found, tables.as_markdown(title, *_content(found)))
    return found


def show(found: dict[str, Any], config: AblateConfig) -> str:
    """Return the tables of an ablation."""
    return tables.as_text(*_content(found)) + f"\ndetails in {config.folder}/{NAME}.json, the tables in {NAME}.md"


def _variants(model: str, heads: Mapping[str, Any], reader: Reader) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the configs of the full head and of the variants that differ from it; and what the cache cannot feed."""
    offered = [name for name in ABLATIONS if name in heads]
    if model not in offered:
        raise ConfigError(f"--model {model} has no ablations; choose from {', '.join(offered)}")
    more, changes = ABLATIONS[model]
    given, lacking = heads[model], []
    for name in dict.fromkeys(knob for change in changes.values() for knob in change):
        if getattr(given, name) != type(given).__dataclass_fields__[name].default:
            raise ConfigError(f"--{name.replace('_', '-')} is what the ablation varies: leave it out")
    full = dataclasses.replace(given, **more)
    try:
        reader.require(model, getattr(full, "more", ()))
    except CacheError as error:  # the variants are then those of the head without it
        wanted = ", ".join(f"{name} {value}" for name, value in more.items())
        lacking.append({"name": f"{model} with {wanted}", "state": "not run", "reason": str(error)})
        full = given
    variants = {name: dataclasses.replace(full, **change) for name, change in changes.items()}
    return {FULL: full} | {name: head for name, head in variants.items() if head != full}, lacking


def _run(config: AblateConfig, name: str, head: Any) -> runs.Run:
    return runs.Run(name, runs.part(config, config.folder / name.replace(" ", "-"), {"fresh": False}), head)


def _published(dataset: str | None, model: str, name: str, head: Any, protocol: str) -> dict[str, Any] | None:
    """Return the published numbers on test of a variant."""
    if model != "drin":
        return published.of_head(dataset, model, head, protocol) if name in (FULL, SHORT_TEXT) else None
    if name in LAYERED:
        layers = published.of_layers(dataset, LAYERED[name])
        return layers and layers["test"]
    return published.of_ablation(dataset, name)


def _layers(dataset: str | None, model: str, variants: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each number of layers, the entry that has so many, and the published numbers."""
    if model != "drin":
        return []
    full = variants[FULL].layers
    return [
        {"layers": layers, "entry": FULL if layers == full else name, "published": published.of_layers(dataset, layers)}
        for name, layers in LAYERED.items()
    ]


def _content(found: dict[str, Any]) -> tuple[list[tables.Section], list[str]]:
    sections = [tables.standing(found, found["head"])]
    if found["layers"]:
        sections.append(_by_layers(found))
    return [*sections, costs.section(found["costs"])], [*tables.notes(found), *costs.notes(found["costs"])]


def _by_layers(found: dict[str, Any]) -> tables.Section:
    """Return DRIN's Table 4: valid and test for each number of layers."""
    entries = {entry["name"]: entry for entry in found["entries"]}
    rows = []
    for row in found["layers"]:
        if entry := entries.get(row["entry"]):
            cells = []
            for split in ("valid", "test"):
                cited = tables.cited(row["published"] and row["published"][split])
                cells += [tables.percent(entry, split, "top1"), cited, tables.percent(entry, split, "mrr")]
            rows.append((str(row["layers"]), *cells))
    header = [f"{split} {column}" for split in ("valid", "test") for column in ("top1", "published", "mrr")]
    return tables.Section(("layers", *header), tuple(rows))
