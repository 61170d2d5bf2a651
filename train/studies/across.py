"""`melcache compare --datasets`: encoder by head, over the mentions that caches of one release share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cache
from cache import Reader
from cache.names import ColumnName
from common import output
from common.errors import ConfigError
from common.output import duration, say, size
from common.paths import find_cache
from train.config import DECISIVE
from train.config.studies import CompareConfig
from train.data import shared_mentions
from train.data.ambiguity import ambiguous
from train.dividing.division import ALONE, Division
from train.evaluating import metrics, protocols
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.studies import costs, divided, plot, published, runs, summary, tables
from train.studies.compare import NAME, measured, planned
from train.studies.runs import Outcome
from train.studies.summary import AMBIGUOUS, TESTED

SHOWN = ("top1", "mrr", "top3", "top5", "top10", "top20")  # the first ones are TESTED
RECALL = f"top{metrics.NEVER}"


@dataclass(frozen=True)
class Compared:
    """A cache, what its own comparison found, what became of its runs, and the rows of the shared mentions there."""

    name: str
    reader: Reader
    found: dict[str, Any]
    outcomes: list[Outcome]
    rows: np.ndarray

    def places(self) -> np.ndarray:
        """Return where the shared mentions stand among those of test, (n,), -1 for those of no run."""
        rows, _ = summary.values_of(next(outcome for outcome in self.outcomes if outcome.found), TESTED)
        places = np.full(self.reader.manifest.tables["mention"], -1)
        places[rows] = np.arange(len(rows))
        return places[self.rows]

    def same(self, outcome: Outcome, other: "Compared") -> bool:
        """Whether what a run reads is in both caches the same, shard by shard; of one cache it is not asked."""
        run, own, there = outcome.run, self.reader.manifest, other.reader.manifest
        held = protocols.columns(protocols.ranking_of(run.config), self.reader)
        read = HEADS[run.config.model].require(self.reader, run.head)
        parts = {ColumnName(column).part for column in (*read, *held)}
        keys = [[(part, shard.key) for part in sorted(parts) for shard in one.shards_of(part)] for one in (own, there)]
        return self is not other and keys[0] == keys[1]


def compare(
    config: CompareConfig, heads: Mapping[str, HeadConfig | None], division: Division = ALONE
) -> dict[str, Any] | None:
    """Train what is left of the heads (name: config) on each cache and return what compare.json holds.

    That has the form of a comparison on one cache (studies.compare), with an entry a head and cache: means over the
    shared mentions, differences from the same head on the first cache, Holm's over all of them. A head that reads
    nothing that differs from the first cache is `same` there and not tested. `caches` says of each by what encoders it
    is, what they took and how big it is. None where the `division` leaves the result to others.
    Raises ConfigError for caches of different releases.
    """
    runs.in_one_process(NAME)
    readers = {Path(name).name: cache.open(find_cache(name, config.shards)) for name in config.datasets}
    rows = shared_mentions.rows_of(readers)
    plans = {
        name: planned(replace(config, dataset=dataset, datasets=(), run=config.folder / name), heads)
        for name, dataset in zip(readers, config.datasets, strict=True)
    }
    work = divided.Runs(config.folder, NAME, [(run, plan.reader) for plan in plans.values() for run in plan.runs])
    if not division.ahead(work, fresh=config.fresh):
        return None
    if config.fresh:
        runs.forget(config.folder, NAME)
    compared = []
    with division.alone(config.folder):
        for name, plan in plans.items():
            say(f"cache {len(compared) + 1} of {len(plans)}: {name}")
            compared.append(Compared(name, plan.reader, *measured(plan, division), rows[name]))
    found = _summarized(compared)
    published.mark(found)
    text = tables.as_markdown(f"{found['dataset']}: encoders and heads compared", *_content(found))
    tables.write(config.folder, NAME, found, text)
    plot.draw(found, config.folder / NAME)
    division.done(config.folder)
    return found


def show(found: dict[str, Any], config: CompareConfig, *, marked: bool = False) -> str:
    """Return the tables of a comparison; `marked` as tables.standing has it."""
    details = f"details in {config.folder}/{NAME}.json, those of each cache in folders beside it"
    sections, notes = _content(found, marked=marked)
    return f"{tables.as_text(sections, [*([tables.signs(found)] if marked else []), *notes])}\n{details}"


def _summarized(compared: Sequence[Compared]) -> dict[str, Any]:
    first, places = compared[0], np.stack([one.places() for one in compared])
    kept = (places >= 0).all(0)
    if not kept.any():
        raise ConfigError(f"{', '.join(one.name for one in compared)} share no labeled mention of test")
    hard = ambiguous(first.reader)[first.rows[kept]]
    entries, values = [], []
    for one, at in zip(compared, places[:, kept], strict=True):
        for outcome in (outcome for outcome in one.outcomes if outcome.found):
            _, own = summary.values_of(outcome, (*SHOWN, RECALL))
            values.append(own[..., at].mean(0))
            entries.append(_entry(one, first, outcome, own[..., at], hard))
    order = sorted(range(len(entries)), key=lambda i: [entry["name"] for entry in entries].index(entries[i]["name"]))
    entries = [entries[i] for i in order]
    stacked = np.stack([values[i] for i in order]).transpose(2, 0, 1)  # (n, R, M)
    _test(entries, stacked[..., : len(TESTED)], TESTED, first.name)
    if hard.any():
        _test(entries, stacked[hard][..., :1], (AMBIGUOUS,), first.name)
    common = {key: first.found[key] for key in (*summary.COMMON, "seeds", "resamples", "level")}
    return {
        **common,
        "dataset": ", ".join(one.name for one in compared),
        "mentions": float(kept.sum()),
        "base": first.name,
        "warnings": list(dict.fromkeys(_warnings(compared, kept))),
        "caches": costs.of_extractions({one.name: one.reader for one in compared}),
        "systems": [],
        "entries": entries,
        "not_run": [
            other | {"name": f"{other['name']}: {one.name}", "dataset": one.name}
            for one in compared
            for other in one.found["not_run"]
        ],
    }


def _entry(one: Compared, first: Compared, outcome: Outcome, values: np.ndarray, hard: np.ndarray) -> dict[str, Any]:
    """Return the entry of a run: of its own comparison, but over the shared mentions.  values (S, M, n), hard (n,)"""
    own = next(entry for entry in one.found["entries"] if entry["name"] == outcome.run.name)
    seeds = dict(zip((*SHOWN, "recall"), values.mean(2).T, strict=True))  # of each metric a mean by seed
    on_hard = values[..., hard].mean(2).T if hard.any() else np.zeros((len(values[0]), len(values)))
    seeds |= {AMBIGUOUS: on_hard[0], "recall_of_ambiguous": on_hard[-1]}
    mean = {metric: float(found.mean()) for metric, found in seeds.items()}
    std = {metric: float(found.std(ddof=1)) if len(found) > 1 else 0.0 for metric, found in seeds.items()}
    counts = {"mentions": float(values.shape[2]), "ambiguous": float(hard.sum())}
    return own | {
        "dataset": one.name,
        "title": own["head"],
        "head": f"{own['head']}: {one.name}",
        "recall_ceiling": mean["recall"],
        "mean": {"test": mean | counts},
        "std": {"test": std},
        "interval": {},
        "difference": None,
        "same": one.same(outcome, first),
    }


def _test(entries: list[dict[str, Any]], values: np.ndarray, names: Sequence[str], base: str) -> None:
    """Add intervals of metrics, and differences from the same head on the cache `base`.  values (n, R, M)"""
    for entry, found in zip(entries, summary.intervals(values, names), strict=True):
        entry["interval"] |= found
    own = {entry["name"]: i for i, entry in enumerate(entries) if entry["dataset"] == base}
    pairs = [(i, own[entry["name"]]) for i, entry in enumerate(entries) if entry["name"] in own]
    pairs = [(i, j) for i, j in pairs if i != j and summary.together(entries[i], entries[j])]
    pairs = [(i, j) for i, j in pairs if not entries[i]["same"]]
    differences = values[:, [i for i, _ in pairs]] - values[:, [j for _, j in pairs]]
    for (i, _), difference in zip(pairs, summary.tested(differences, names), strict=True):
        entries[i]["difference"] = (entries[i]["difference"] or {}) | difference


def _warnings(compared: Sequence[Compared], kept: np.ndarray) -> Iterator[str]:
    """Yield what makes a difference one of more than encoders, then what the caches say of themselves."""
    first = compared[0]
    for one in compared:
        if (own := int(one.found["mentions"])) != kept.sum():
            yield f"{one.name} has {own:,} mentions of test, of which {int(kept.sum()):,} are in every cache"
    for one in compared[1:]:
        if one.found["split"]["digest"] != first.found["split"]["digest"]:
            yield f"{one.name} holds other mentions than {first.name}: heads were trained on others, too"
        if count := shared_mentions.lists_differ(first.reader, one.reader, first.rows[kept], one.rows[kept]):
            yield f"{count:,} lists of candidates differ between {first.name} and {one.name}, not the encoders alone"
        if shared_mentions.entities_differ(first.reader, one.reader):
            yield f"{one.name} holds other entities than {first.name}, not other encoders alone"
        settings = {outcome.run.name: outcome.run.config for outcome in first.outcomes}
        for outcome in (outcome for outcome in one.outcomes if outcome.run.name in settings):
            config, base = outcome.run.config, settings[outcome.run.name]
            if changed := [name for name in DECISIVE if getattr(config, name) != getattr(base, name)]:
                yield (
                    f"{outcome.run.name} has other settings on {one.name} than on {first.name}, by its name: "
                    f"{', '.join(changed)}. Give them as options"
                )
    for one in compared:
        yield from one.found["warnings"]


def _content(found: dict[str, Any], *, marked: bool = False) -> tuple[list[tables.Section], list[str]]:
    what = "head: cache"
    sections = [
        _by_cache(found),
        tables.standing(found, what, marked=marked),
        *tables.on_ambiguous(found, what, marked=marked),
        _costs(found),
    ]
    told = (
        f"the first table: Top-1 on the shared mentions, and how far it is from that of {found['base']}; * where that "
        f"differs from 0 (corrected p < {output.SMALL}), = where the head reads nothing that differs"
    )
    return sections, [told, *tables.notes(found)]


def _by_cache(found: dict[str, Any]) -> tables.Section:
    """Return a row a head and a column a cache, with what the cache has cost below."""
    names = [one["name"] for one in found["caches"]]
    cells: dict[str, dict[str, str]] = {}
    for entry in found["entries"]:
        cell, difference = tables.percent(entry, "test", "top1"), entry["difference"]
        if difference is not None:
            mark = "*" if difference["top1"]["holm"] < output.SMALL else ""
            cell += f" ({100 * difference['top1']['mean']:+.1f}{mark})"
        elif entry["same"]:
            cell += " (=)"
        cells.setdefault(entry["title"], {})[entry["dataset"]] = cell
    rows = [(head, *(own.get(name, "-") for name in names)) for head, own in cells.items()]
    known = [[role["seconds"] for role in one["roles"].values()] for one in found["caches"]]
    rows.append(("encoding took", *("-" if None in own or not own else duration(sum(own)) for own in known)))
    rows.append(("size", *(size(one["bytes"]) for one in found["caches"])))
    return tables.Section(("top1", *names), tuple(rows))


def _costs(found: dict[str, Any]) -> tables.Section:
    rows = [
        (
            one["name"],
            name,
            role["encoder"],
            ", ".join(role["differs"]) or "-",
            "-" if role["seconds"] is None else duration(role["seconds"]),
            size(role["bytes"]),
        )
        for one in found["caches"]
        for name, role in one["roles"].items()
    ]
    header = ("cache", "role", "encoder", f"differs from {found['base']} in", "encoding took", "size")
    return tables.Section(header, tuple(rows))
