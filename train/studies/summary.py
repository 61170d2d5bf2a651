"""How the runs of a series stand on test: means over seeds, and differences from one of them, mention by mention."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import cache
from cache import Reader
from common.errors import ConfigError
from common.paths import find_cache
from train import results
from train.config import PROTOCOLS, TrainConfig
from train.config.studies import SeriesConfig
from train.data import splits
from train.data.ambiguity import ambiguous
from train.evaluating import metrics
from train.inspecting import slices
from train.judging.significance import LEVEL, RESAMPLES, approximate_randomization, holm, paired_bootstrap
from train.optimizing import checkpoint
from train.studies.runs import Outcome

TESTED = ("top1", "mrr")  # metrics with intervals and p
AMBIGUOUS = "top1_of_ambiguous"  # the same of Top-1, over the ambiguous mentions alone
COMMON = ("dataset", "cache_id", "split", "unlabeled", "protocol", "tie_rule", "entities")  # of results.json
SAME_LISTS = (PROTOCOLS["retrieved"], PROTOCOLS["given"])  # elsewhere gold is put in, or others are ranked


def summarize(config: SeriesConfig, outcomes: Sequence[Outcome], base: str, reader: Reader) -> dict[str, Any]:
    """Return what compare.json and ablate.json have in common; metrics are fractions.

    Seeds are those asked for, whatever else a run's folder holds. `entries` are the runs that ended, with `interval`s
    of TESTED and their `difference` from the run `base`: mean, its interval, `p` by randomization, `holm` of that over
    all runs that have one, `p_bootstrap`. None have `base` and runs that rank other entities than it (`ranked`).
    Both are of AMBIGUOUS, too, where a mention of the `reader`'s cache is ambiguous.
    Raises ConfigError if no run ended, and if runs are on different splits.
    """
    ended = [outcome for outcome in outcomes if outcome.found]
    if not ended:
        raise ConfigError(f"no run finished; {outcomes[0].run.name}: {outcomes[0].reason}")
    _check_splits(ended)
    entries = [_entry(outcome) for outcome in ended]
    rows, values = _values(ended)
    place = next((i for i, entry in enumerate(entries) if entry["name"] == base), None)
    _test(entries, values, TESTED, place)
    hard = ambiguous(reader)[rows]
    if hard.any():
        _test(entries, values[hard][..., [TESTED.index("top1")]], (AMBIGUOUS,), place)
    first = ended[0].found
    told = {warning: None for outcome in ended for warning in outcome.found["warnings"]}
    return {
        **{key: first[key] for key in COMMON},
        "mentions": first["mean"]["test"]["mentions"],
        "seeds": list(config.seeds),
        "base": base,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "warnings": list(told),
        "entries": entries,
        "not_run": [
            {"name": outcome.run.name, "state": outcome.state, "reason": outcome.reason}
            for outcome in outcomes
            if not outcome.found
        ],
    }


def _test(entries: list[dict[str, Any]], values: np.ndarray, names: Sequence[str], base: int | None) -> None:
    """Add intervals of the metrics `names` to the entries, and differences from the one at `base`.  values (n, R, M)"""
    for entry, found in zip(entries, intervals(values, names), strict=True):
        entry["interval"] = entry.get("interval", {}) | found
    if base is None:
        return
    own = entries[base]
    others = [i for i, entry in enumerate(entries) if entry is not own and together(entry, own)]
    for i, difference in zip(others, tested(values[:, others] - values[:, [base]], names), strict=True):
        entries[i]["difference"] = (entries[i]["difference"] or {}) | difference


def _check_splits(ended: Sequence[Outcome]) -> None:
    """Raise ConfigError where numbers are of different splits: their difference would be one of the mentions."""
    on = {outcome.run.name: outcome.found["split"] for outcome in ended}
    if any(split != ended[0].found["split"] for split in on.values()):
        named = "; ".join(f"{name} on {splits.told(split)}" for name, split in on.items())
        raise ConfigError(f"runs on different splits are not compared: {named}. Train them anew: --fresh")


def _entry(outcome: Outcome) -> dict[str, Any]:
    run, seeds = outcome.run, _seeds(outcome)
    trained = run.head is not None
    return {
        "name": run.name,
        "head": outcome.found["name"],
        "run": str(run.config.folder),
        **{key: outcome.found[key] for key in ("ranked", "candidates")},
        "recall_ceiling": outcome.found["recall_ceiling"]["test"],
        "seeds": [seed["seed"] for seed in seeds] if trained else [],
        "epochs": [seed["epoch"] for seed in seeds] if trained else [],
        **results.moments(seeds),
        "seconds": round(sum(seed["seconds"] for seed in seeds), 2) if trained else None,
        "difference": None,
    }


def _seeds(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the results of the seeds asked for; a head without weights has one and takes no seed."""
    seeds = outcome.found["seeds"]
    return seeds if outcome.run.head is None else [s for s in seeds if s["seed"] in outcome.run.config.seeds]


def together(entry: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs rank the same entities for a mention, so that their difference is one of the heads."""
    return all(entry[key] == other[key] for key in ("ranked", "candidates"))


def _values(ended: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """Return mention rows (n,), and each one's value for each run and metric of TESTED, mean over the run's seeds.

    (n, R, M)
    """
    found = [values_of(outcome, TESTED) for outcome in ended]
    rows = _of_one([own for own, _ in found])
    return rows, np.stack([values.mean(0) for _, values in found]).transpose(2, 0, 1)


def values_of(outcome: Outcome, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (n,) of test's mentions, and the value of each by seed and metric.  (S, M, n)"""
    about = {name: outcome.found[name] for name in ("model", "cache_id")}
    ranks = [checkpoint.ranks(outcome.run.config.folder, seed, about) for seed in _seeds(outcome)]
    values = [[metrics.per_mention(r["better"], r["tied"], metric).numpy() for metric in names] for r in ranks]
    return _of_one([own["rows"].numpy() for own in ranks]), np.array(values)


def _of_one(found: list[np.ndarray]) -> np.ndarray:
    """Return the mention rows that all runs have.  Raises ConfigError where they differ."""
    if any(not np.array_equal(rows, found[0]) for rows in found):  # not on one cache, if nobody has changed them
        raise ConfigError("the runs hold ranks of different mentions. Train them anew with --fresh")
    return found[0]


def intervals(values: np.ndarray, names: Sequence[str]) -> list[dict[str, list[float]]]:
    """Return the interval of each run's mean by metric.  values (n, R, M)"""
    low, high, _ = _by_run(values, paired_bootstrap)
    return [{metric: [float(low[i, j]), float(high[i, j])] for j, metric in enumerate(names)} for i in range(len(low))]


def tested(differences: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return of R differences of runs, mention by mention (n, R, M), mean, interval and p by metric, Holm's over R."""
    if not differences.shape[1]:
        return []
    low, high, p_bootstrap = _by_run(differences, paired_bootstrap)
    (p,) = _by_run(differences, lambda columns: (approximate_randomization(columns),))
    found: list[dict[str, Any]] = [{} for _ in range(differences.shape[1])]
    for j, metric in enumerate(names):
        for i, corrected in enumerate(holm(p[:, j].tolist())):
            found[i][metric] = {
                "mean": float(differences[:, i, j].mean()),
                "interval": [float(low[i, j]), float(high[i, j])],
                "p": float(p[i, j]),
                "holm": corrected,
                "p_bootstrap": float(p_bootstrap[i, j]),
            }
    return found


def _by_run(values: np.ndarray, test: Callable[[np.ndarray], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return what a test of columns says of (n, R, M), as arrays (R, M)."""
    return [column.reshape(values.shape[1:]) for column in test(values.reshape(len(values), -1))]


def beside_lexical(found: dict[str, Any], config: TrainConfig) -> dict[str, Any] | None:
    """Return mean difference, interval and p of a run's Top-1, the mean over seeds, minus the string matcher's.

    `found` is the content of results.json. None of the matcher itself, where it ranks other entities, and of no
    mention.
    """
    if found["model"] == "lexical" or found["protocol"] not in SAME_LISTS or not found["mean"]["test"]["mentions"]:
        return None
    about = {name: found[name] for name in ("model", "cache_id")}
    ranks = [checkpoint.ranks(config.folder, seed, about) for seed in found["seeds"]]
    own = np.mean([metrics.per_mention(of["better"], of["tied"], "top1").numpy() for of in ranks], 0)
    matcher = slices.lexical(cache.open(find_cache(config.dataset, config.shards)), ranks[0]["rows"]).numpy()
    difference: dict[str, Any] = tested((own - matcher)[:, None, None], ["top1"])[0]["top1"]
    return difference
