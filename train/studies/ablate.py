"""`melcache ablate`: a head without each of its parts, beside the numbers of its paper, and what heads cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cache
from cache import Reader
from common.errors import CacheError, ConfigError
from common.paths import find_cache
from common.words import one_of
from train.config.studies import AblateConfig
from train.dividing.division import ALONE, Division
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.run import name_of
from train.studies import costs, divided, published, runs, summary, tables

NAME, FULL = "ablate", "full"


def known() -> tuple[str, ...]:
    """Return the heads that have ablations."""
    return tuple(name for name, entry in HEADS.items() if entry.ablations is not None)


def ablate(config: AblateConfig, heads: Mapping[str, HeadConfig], division: Division = ALONE) -> dict[str, Any] | None:
    """Train what is left of the variants of `config.model` and return what ablate.json holds.

    That is what summary.summarize returns, `layers` (DRIN Table 4) and `costs` of all `heads` (name: config).
    None where the `division` leaves the result to others.
    Raises ConfigError for a head without ablations, and for an option that its ablation varies.
    """
    runs.in_one_process(NAME)
    reader = cache.open(find_cache(config.dataset, config.shards))
    dataset = published.dataset_of(config.published, reader.manifest.dataset.name)
    variants, lacking = _variants(config.model, heads, reader)
    planned = [_run(config, name, head) for name, head in variants.items()]
    if not division.ahead(divided.Runs(config.folder, NAME, [(run, reader) for run in planned]), fresh=config.fresh):
        return None
    config = division.rest(config)
    outcomes = runs.train(config, planned, reader, NAME, division)
    found = summary.summarize(config, outcomes, FULL, reader)
    found |= {"model": config.model, "head": name_of(config, variants[FULL])}
    found["not_run"] += lacking
    for entry in (*found["entries"], *found["not_run"]):
        entry["head"] = entry["name"]
        head, letter = variants.get(entry["name"]), found["protocol"][0]
        entry["published"] = published.of_variant(dataset, config.model, entry["name"], head, letter)
    found["layers"] = _layers(dataset, config.model, variants)
    published.mark(found, *(number for row in found["layers"] for number in (row["published"] or {}).values()))
    found["costs"] = costs.count_all(reader, heads)
    title = f"{found['dataset']}: {found['head']} without its parts"
    tables.write(config.folder, NAME, found, tables.as_markdown(title, *_content(found)))
    division.done(config.folder)
    return found


def show(found: dict[str, Any], config: AblateConfig, *, marked: bool = False) -> str:
    """Return the tables of an ablation; `marked` as tables.standing has it."""
    details = f"details in {config.folder}/{NAME}.json, the tables in {NAME}.md"
    sections, notes = _content(found, marked=marked)
    return f"{tables.as_text(sections, [*([tables.signs(found)] if marked else []), *notes])}\n{details}"


def _variants(
    model: str, heads: Mapping[str, HeadConfig], reader: Reader
) -> tuple[dict[str, HeadConfig], list[dict[str, str]]]:
    """Return the configs of the full head and of the variants that differ from it; and what the cache cannot feed."""
    offered = [name for name in known() if name in heads]
    if (ablations := HEADS[model].ablations) is None or model not in heads:
        raise ConfigError(f"--model {model} has no ablations; choose from {one_of(model, offered)}")
    given, lacking = heads[model], []
    varied = {knob for change in ablations.variants.values() for knob in change}
    for option in dataclasses.fields(given):
        if (name := option.name) in varied and getattr(given, name) != option.default:
            raise ConfigError(f"--{name.replace('_', '-')} is what the ablation varies: leave it out")
    full = dataclasses.replace(given, **ablations.full)
    try:
        HEADS[model].require(reader, full)
    except CacheError as error:  # the variants are then those of the head without it
        wanted = ", ".join(f"{name} {value}" for name, value in ablations.full.items())
        lacking.append({"name": f"{model} with {wanted}", "state": "not run", "reason": str(error)})
        full = given
    variants = {name: dataclasses.replace(full, **change) for name, change in ablations.variants.items()}
    return {FULL: full} | {name: head for name, head in variants.items() if head != full}, lacking


def _run(config: AblateConfig, name: str, head: HeadConfig) -> runs.Variant:
    return runs.Variant(name, runs.part(config, config.folder / name.replace(" ", "-"), {"fresh": False}), head)


def _layers(dataset: str | None, model: str, variants: Mapping[str, HeadConfig]) -> list[dict[str, Any]]:
    """Return, for each number of layers, the entry that has so many, and the published numbers."""
    ablations = HEADS[model].ablations
    found = []
    for name in ablations.layered if ablations else ():
        layers = ablations.variants[name]["layers"]
        entry = name if name in variants else FULL  # one that is the full head is not trained twice
        found.append({"layers": layers, "entry": entry, "published": published.of_layers(dataset, model, name)})
    return found


def _content(found: dict[str, Any], *, marked: bool = False) -> tuple[list[tables.Section], list[str]]:
    head = found["head"]
    sections = [tables.standing(found, head, marked=marked), *tables.on_ambiguous(found, head, marked=marked)]
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
