"""Published results beside ours, and what differs between how both came about."""

from collections.abc import Sequence
from typing import Any

from common.errors import ConfigError
from common.words import one_of
from train.heads.entry import Ablations, Row
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.studies.published_rows import SOURCES, SYSTEMS

DATASETS = ("wikimel", "wikidiverse", "richpedia")
NONE = Ablations({}, {})
OURS = {"trained": "frozen", "selected": "valid"}  # of every head of melcache; ties and protocol stand in results
WHAT = {
    "trained": {"frozen": "frozen features", "tuned": "tuned encoders", "LLM": "an LLM", "unknown": "training unknown"},
    "selected": {"valid": "selected on valid", "test": "selected on test", "unknown": "selection unknown"},
}


def dataset_of(asked: str | None, name: str) -> str | None:
    """Return whose numbers stand beside a dataset: those asked for, else those of its name, None if there are none."""
    if asked is not None and asked not in DATASETS:
        raise ConfigError(f"--published {asked}: choose from {one_of(asked, DATASETS)}")
    return asked or (name if name in DATASETS else None)


def of_head(dataset: str | None, model: str, head: HeadConfig | None, protocol: str = "A") -> dict[str, Any] | None:
    """Return the published numbers of a head, as `_entry` does; those under the `protocol` (A to D) where there are.

    Where papers report several systems of one head, those of the system that its options make.
    """
    entry = HEADS[model]
    own = head or (entry.config() if entry.config else HeadConfig())
    return _first([row for row in entry.published if own.system in ("", row.system)], dataset, protocol)


def of_systems(dataset: str | None, protocol: str) -> list[dict[str, Any]]:
    """Return the numbers of systems that are no head of melcache, those under the `protocol` first."""
    return [_entry(row, dataset) for row in _ordered(SYSTEMS, dataset, protocol)]


def of_variant(
    dataset: str | None, model: str, name: str, head: HeadConfig | None, protocol: str
) -> dict[str, Any] | None:
    """Return the published numbers on test of a variant of a head's ablation."""
    ablations = HEADS[model].ablations or NONE
    if name in ablations.alone:
        return of_head(dataset, model, head, protocol)
    return _first([ablations.test[name]] if name in ablations.test else [], dataset, protocol)


def of_layers(dataset: str | None, model: str, name: str) -> dict[str, dict[str, Any]] | None:
    """Return the published numbers on valid and test of a variant with more or fewer layers (DRIN Table 4)."""
    ablations = HEADS[model].ablations or NONE
    rows = {"valid": ablations.valid.get(name), "test": ablations.test.get(name)}
    found = {split: _entry(row, dataset) for split, row in rows.items() if row and dataset in row.values}
    return found or None


def _first(rows: Sequence[Row], dataset: str | None, protocol: str) -> dict[str, Any] | None:
    ordered = _ordered(rows, dataset, protocol)
    return _entry(ordered[0], dataset) if ordered else None


def _ordered(rows: Sequence[Row], dataset: str | None, protocol: str) -> list[Row]:
    """Return the rows that have numbers of a dataset, those under the protocol first, others in their order."""
    known = [row for row in rows if dataset in row.values]
    return sorted(known, key=lambda row: SOURCES[row.source].protocol != protocol)


def mark(found: dict[str, Any], *more: dict[str, Any] | None) -> None:
    """Add to every published number of a series' result, and to `more`, in what it `differs` from the runs there."""
    beside = [entry["published"] for entry in (*found["entries"], *found["not_run"])]
    for entry in filter(None, (*beside, *more)):
        entry["differs"] = differences(entry, found["protocol"][0], found["tie_rule"], found["mentions"])


def differences(entry: dict[str, Any], protocol: str, ties: str, mentions: float) -> list[str]:
    """Return in what a published number came about otherwise than a run of ours, in words.

    `protocol` (A to D), `ties` and the number of `mentions` tested are the run's.
    """
    tested = entry["tested"]
    split = f"{tested:,} mentions tested, here {mentions:,.0f}" if tested and tested != mentions else ""
    return [
        *([f"protocol {entry['protocol']}, here {protocol}"] if entry["protocol"] != protocol else []),
        *([entry["own"]] if entry["own"] else []),
        *(f"{WHAT[key][entry[key]]}, here {ours}" for key, ours in OURS.items() if entry[key] != ours),
        *([f"ties {entry['ties']}, here {ties}"] if entry["ties"] != ties else []),
        split or f"split {entry['split']}, not compared with this one",
    ]


def notes(entries: list[dict[str, Any]]) -> list[str]:
    """Return what stands behind published numbers and differs from the runs beside them, a line per kind of number."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        kinds.setdefault((entry["source"], *entry["differs"]), []).append(entry["system"])
    return [
        f"published {letter}, {SOURCES[letter].where} ({', '.join(dict.fromkeys(systems))}): {'; '.join(differs)}"
        for (letter, *differs), systems in sorted(kinds.items())
    ]


def _entry(row: Row, dataset: str) -> dict[str, Any]:
    """Return a row's numbers by metric, their `deviation` over runs where known, and how they came about."""
    source = SOURCES[row.source]
    metrics = source.metrics[dataset]
    return {
        "system": row.system,
        "source": row.source,
        **dict(zip(metrics, row.values[dataset], strict=False)),  # Table 4 has the first three, others no MRR
        "deviation": dict(zip(metrics, row.deviations.get(dataset, ()), strict=False)),
        "protocol": source.protocol,
        "trained": row.trained,
        "selected": row.selected or source.selected,
        "ties": row.ties or source.ties,
        "split": source.split.get(dataset, "unknown"),
        "tested": source.tested.get(dataset),
        "own": source.own.get(dataset, ""),
    }
