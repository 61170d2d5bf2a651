"""`melcache evaluate`: predictions of any system, ranked and measured as a run of our own is.

Ties count in expectation, hits are by id, and every mention of the split that has a label counts. The lists decide, and
beyond them what lines state of gold's rank (judging.gold_rank), which the result tells apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from cache import Reader
from cache.reader.row_index import RowIndex
from cache.schema import UNLABELED
from common.errors import ConfigError
from common.paths import find_cache, is_folder
from common.records import split_mask
from train.config import PROTOCOLS
from train.config.judging import EvaluateConfig
from train.data import splits
from train.data.ambiguity import ambiguous
from train.data.row_names import row_names
from train.evaluating import metrics
from train.inspecting import slices
from train.inspecting.finished_run import results_of
from train.judging import confidence, gold_rank, predictions
from train.judging.gold_rank import Judged
from train.judging.predictions import Predictions
from train.judging.significance import LEVEL, RESAMPLES, approximate_randomization, holm, paired_bootstrap
from train.optimizing import checkpoint

TESTED = ("top1", "top5", "mrr")
LETTERS = {"A": "retrieved", "B": "injected", "C": "whole-kb", "D": "given"}
NEEDED = ("mention.ids.gold", "mention.ids.splits")
NOTHING: tuple[dict[str, Any], list[str], str | None] = {}, [], None  # of no other system


def judge(config: EvaluateConfig) -> dict[str, Any]:
    """Return a system's `metrics` and `intervals`, its `slices`, and its `differences` from another; as fractions.

    Raises ConfigError for predictions that lack a mention, or that the protocol does not allow.
    """
    reader = cache.open(find_cache(config.dataset, config.shards))
    if missing := [name for name in NEEDED if name not in reader.columns]:
        raise ConfigError(f"{reader.path} lacks {', '.join(missing)}, by which predictions are judged")
    assert config.predictions is not None
    protocol, found = LETTERS[config.protocol], _read(config.predictions, config)
    rows = rows_of(reader, config.split, protocol, found.valid_from)
    better, tied, facts = ranked(found, reader, rows, protocol)
    values, alone = per_mention(better, tied), facts.pop("alone")
    hard = torch.from_numpy(ambiguous(reader)[rows])
    measured = metrics.summarize(better, tied, ambiguous=hard)
    chance = measured["recall"] * facts.pop("chance")
    selected_on = config.selected_on or found.selected_on
    differences, warnings, other = _differences(config, reader, rows, protocol, values) if config.against else NOTHING
    return {
        "system": config.system or found.name,
        "selected_on": selected_on,
        "dataset": reader.manifest.dataset.name,
        "cache_id": reader.id,
        "split": {"name": config.split} | splits.describe(reader, found.valid_from),
        "protocol": PROTOCOLS[protocol],
        "tie_rule": "expected",
        "metrics": measured
        | {"chance_top1": chance, "adjusted_top1": (measured["top1"] - chance) / (1 - chance) if chance < 1 else 0.0},
        "metrics_of_lists": metrics.summarize(*alone, ambiguous=hard) if facts["stated_ranks"] else None,
        "intervals": _intervals(values),
        **facts,
        "slices": _slices(reader, found.valid_from, rows, better, tied),
        "against": None if config.against is None else str(config.against),
        "against_is": other,
        "differences": differences,
        "warnings": [*_warnings(selected_on, config.split), *_ignored(found, facts), *warnings],
        "confidence": _confidence(found, reader, rows, per_mention(*alone)[:, TESTED.index("top1")]),
    }


def _read(path: Path, config: EvaluateConfig) -> Predictions:
    """Return what a file predicts, without the ranks that it states if the lists alone are to decide."""
    found = predictions.read(path)
    if not config.lists_only:
        return found
    return replace(found, lists={name: replace(own, gold_rank=None) for name, own in found.lists.items()})


def rows_of(reader: Reader, split: str, protocol: str, valid_from: str | None = None) -> np.ndarray:
    """Return the rows of the mentions that count: of the split, labeled; with "given" those whose list holds gold."""
    gold = reader.column("pair.candidates.gold")
    counted = (splits.masks(reader, valid_from) & split_mask(split) > 0) & (gold > UNLABELED)
    if protocol == "given":
        counted &= gold >= 0
    rows: np.ndarray = np.flatnonzero(counted)
    if not len(rows):
        raise ConfigError(f"{reader.path} has no labeled mention in its {split} split")
    return rows


def ranked(
    found: Predictions, reader: Reader, rows: np.ndarray, protocol: str
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return metrics.ranks of mention rows (n,), and facts: those of the lists `alone`, their lengths, and so on."""
    ids, known = row_names(reader, "mention.ids.id"), row_names(reader, "entity.ids.id")
    golds, entities = reader.column("mention.ids.gold"), _known(found, known)
    _check_mentions(found, [ids[row] for row in rows], set(ids))
    judged: list[Judged] = []
    lengths, strangers, chances, whole = [], 0, [], protocol == "whole-kb"
    for row in rows:
        own, where = found.lists[ids[row]], f"{found.path}, mention '{ids[row]:.60}'"
        gold = known[golds[row]] if golds[row] >= 0 else None
        if protocol == "injected" and gold is not None and gold not in own.ids:
            raise ConfigError(
                f"{where}: protocol B puts gold into every list, and its gold '{gold}' is not there. Judge retrieved "
                "lists under --protocol A"
            )
        judged.append(gold_rank.judge(own, gold, len(known), where, all_ranked=whole))
        lengths.append(len(own.ids))
        strangers += len(set(own.ids) - entities)
        chances.append(1 / len(known) if whole else 1 / max(1, len(own.ids)))
    better, tied = torch.tensor([one.rank for one in judged]).T
    there = (better < metrics.NEVER).numpy()
    facts = {
        "mentions": len(rows),
        "candidates": {"mean": float(np.mean(lengths)), "least": min(lengths), "most": max(lengths)},
        "unknown_candidates": strangers,
        "stated_ranks": sum(one.beyond for one in judged),
        "ignored_ranks": sum(one.ignored for one in judged),
        "alone": tuple(torch.tensor([one.alone for one in judged]).T),
        "chance": float(np.mean(np.array(chances)[there])) if there.any() else 0.0,
    }
    return better, tied, facts


def _known(found: Predictions, known: Sequence[str]) -> set[str]:
    """Return those of the predicted ids that entities of the cache have."""
    listed = list(dict.fromkeys(id for own in found.lists.values() for id in own.ids))
    return {id for id, row in zip(listed, RowIndex(known).found(listed), strict=True) if row is not None}


def per_mention(better: Tensor, tied: Tensor) -> np.ndarray:
    """Return TESTED of each mention, float64 (n, M)."""
    return np.stack([metrics.per_mention(better, tied, name).numpy() for name in TESTED], 1)


def _check_mentions(found: Predictions, wanted: list[str], known: set[str]) -> None:
    """Raise ConfigError for mentions that the cache does not have, and for those that the predictions lack."""
    if strange := [mention for mention in found.lists if mention not in known]:
        raise ConfigError(
            f"{found.path} has {len(strange):,} mentions that the cache does not have, first '{strange[0]:.60}'. "
            "Expected ids as `melcache evaluate --qrels FILE` writes them"
        )
    if lost := [mention for mention in wanted if mention not in found.lists]:
        raise ConfigError(
            f"{found.path} lacks {len(lost):,} of the {len(wanted):,} mentions, first '{lost[0]:.60}'. A mention "
            "without an answer counts, too: give it an empty list of candidates"
        )


def _warnings(selected_on: str, split: str) -> list[str]:
    if selected_on != split:
        return []
    return [
        f"selected on the very mentions that it is judged on ({split}): the best of what was tried, which says nothing "
        "of new mentions"
    ]


def _ignored(found: Predictions, facts: Mapping[str, Any]) -> list[str]:
    if not facts["ignored_ranks"]:
        return []
    return [
        f"{found.path} states ranks of {facts['ignored_ranks']:,} golds that its lists should hold and do not: they "
        "count as misses. Write whole lists (`melcache predict --top 0`)"
    ]


def _confidence(found: Predictions, reader: Reader, rows: np.ndarray, right: np.ndarray) -> dict[str, Any] | None:
    """Return what judging.confidence measures of a system that says probabilities, or on which mentions it abstains."""
    ids = row_names(reader, "mention.ids.id")
    lists = [found.lists[ids[row]] for row in rows]
    told: dict[str, Any] = {}
    if any(own.confidence is not None for own in lists) and all(
        own.confidence is not None or not own.ids for own in lists
    ):
        told |= confidence.calibrated(np.array([own.confidence or 0.0 for own in lists]), right)
    if any(own.nil is not None for own in lists):
        abstains = np.array([not own.ids if own.nil is None else own.nil for own in lists])
        told |= confidence.abstaining(right, confidence.nils(reader, rows), abstains)
    return told or None


def _intervals(values: np.ndarray) -> dict[str, list[float]]:
    low, high, _ = paired_bootstrap(values)
    return {name: [float(low[i]), float(high[i])] for i, name in enumerate(TESTED)}


def _slices(
    reader: Reader, valid_from: str | None, rows: np.ndarray, better: Tensor, tied: Tensor
) -> dict[str, dict[str, dict[str, float]]]:
    """Return metrics by slicing and slice, of the slicings whose columns the cache has."""
    found = {}
    known = {slices.SPLITS: splits.masks(reader, valid_from)}
    for slicing in (slicing for some in slices.SLICINGS.values() for slicing in some):
        if set(slicing.reads) <= set(reader.columns):
            labels = slicing.label({name: reader.column(name) for name in slicing.reads} | known, rows)
            found[slicing.title] = _by_label(labels, better, tied)
    return found


def _by_label(labels: np.ndarray, better: Tensor, tied: Tensor) -> dict[str, dict[str, float]]:
    found = {}
    for label in sorted(set(labels.tolist())):
        inside = torch.from_numpy(labels == label)
        found[label] = metrics.summarize(better[inside], tied[inside])
    return found


def _differences(
    config: EvaluateConfig, reader: Reader, rows: np.ndarray, protocol: str, values: np.ndarray
) -> tuple[dict[str, dict[str, Any]], list[str], str]:
    """Return by metric the mean difference from another system, its interval, p and Holm's; warnings; what that is."""
    assert config.against is not None
    other, warnings, what = _values_of(config, config.against, reader, rows, protocol)
    apart = values - other
    low, high, _ = paired_bootstrap(apart)
    p = approximate_randomization(apart).tolist()
    tested = {
        name: {
            "mean": float(apart[:, i].mean()),
            "interval": [float(low[i]), float(high[i])],
            "p": p[i],
            "holm": corrected,
            "level": LEVEL,
            "resamples": RESAMPLES,
        }
        for i, (name, corrected) in enumerate(zip(TESTED, holm(p), strict=True))
    }
    return tested, warnings, what


def _values_of(
    config: EvaluateConfig, against: Path, reader: Reader, rows: np.ndarray, protocol: str
) -> tuple[np.ndarray, list[str], str]:
    """Return TESTED of each mention under another system, warnings, and which scores these are.

    The system is a file, or a run of ours, of which the seeds' metrics are averaged.
    """
    if not is_folder(against):
        other = _read(against, config)
        better, tied, facts = ranked(other, reader, rows, protocol)
        stated = facts["stated_ranks"]
        told = [f"of {stated:,} mentions the rank of gold is as {against} states it"] if stated else []
        return per_mention(better, tied), [*told, *_ignored(other, facts)], "metrics of its lists"
    results = results_of(against)
    if results is None:
        raise ConfigError(f"--against {against}: no finished run, for it has no results.json")
    _check_alike(against, results, reader, protocol)
    about = {name: results[name] for name in ("model", "cache_id")}
    seeds = [checkpoint.ranks(against, seed, about) for seed in results["seeds"]]
    if any(not np.array_equal(seed["rows"].numpy(), rows) for seed in seeds):
        raise ConfigError(f"--against {against} was tested on other mentions than the {len(rows):,} that count here")
    found: np.ndarray = np.mean([per_mention(seed["better"], seed["tied"]) for seed in seeds], 0)
    named = ", ".join(str(seed["seed"]) for seed in results["seeds"])
    return found, [], f"mean of the metrics of seeds {named}" if len(seeds) > 1 else f"metrics of seed {named}"


def _check_alike(against: Path, results: Mapping[str, Any], reader: Reader, protocol: str) -> None:
    for what, own, wanted in (
        ("cache", results["cache_id"], reader.id),
        ("protocol", results["protocol"], PROTOCOLS[protocol]),
    ):
        if own != wanted:
            raise ConfigError(f"--against {against} is of {what} {own[:16]}, and not of {wanted[:16]}")
