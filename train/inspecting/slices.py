"""`melcache slices`: a finished run's accuracy on parts of its test split, from the ranks that it kept."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import ConfigError
from common.foreign import printable
from common.output import percent, table
from train.config import SlicesConfig
from train.data import splits
from train.evaluating import metrics
from train.inspecting.finished_run import cache_of, results_of
from train.optimizing import checkpoint

SHOWN = ("top1", "top5", "mrr", "recall")
KNOWN = ("model", "name", "dataset", "split", "protocol", "tie_rule", "cache_id", "warnings")  # of results.json
SPLITS = "mention.ids.splits"
NIL = "no gold entity in the cache"


@dataclass(frozen=True)
class Slicing:
    """One way to slice: `label` says of columns (in `reads`) and mention rows (n,) in which slice each is, (n,) str.

    Slices are shown in `order`, those that are not named there behind, by name.
    """

    title: str
    reads: tuple[str, ...]
    label: Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]
    order: tuple[str, ...] = ()


def examine(config: SlicesConfig) -> dict[str, Any]:
    """Return each slice's size, and the mean and deviation of its metrics over the run's seeds.

    Raises ConfigError if the run is not finished, is damaged, or its cache is not the one that it was trained on.
    """
    results = results_of(config.run)
    if results is None:
        raise ConfigError(f"{config.run} holds no finished run: no results.json. `melcache train` writes one")
    reader, about = cache_of(config, results["cache_id"]), {name: results[name] for name in ("model", "cache_id")}
    seeds = [checkpoint.ranks(config.run, seed, about) for seed in results["seeds"]]
    rows, count = seeds[0]["rows"], reader.manifest.tables["mention"]
    if any(not torch.equal(seed["rows"], rows) for seed in seeds) or (rows >= count).any():
        raise ConfigError(f"{config.run} holds ranks of other mentions than its test has. Train it with --fresh")
    found, left_out = {}, {}
    for slicing in (slicing for name in config.by for slicing in SLICINGS[name]):
        if missing := [name for name in slicing.reads if name not in reader.columns]:
            left_out[slicing.title] = f"{reader.path} lacks {', '.join(missing)}"
            continue
        columns = {name: reader.column(name) for name in slicing.reads}
        if SPLITS in columns:
            columns[SPLITS] = splits.masks(reader, results["split"]["valid_from"])
        found[slicing.title] = _measure(slicing, slicing.label(columns, seeds[0]["rows"].numpy()), seeds)
    known = {name: results[name] for name in KNOWN}
    return {"run": str(config.run), **known, "seeds": len(seeds), "slices": found, "left_out": left_out}


def show(found: dict[str, Any]) -> str:
    """Return a table for each slicing, and a line for each that was left out."""
    name, dataset, protocol, ties = (printable(str(found[key])) for key in ("name", "dataset", "protocol", "tie_rule"))
    lines = [f"{name} on {dataset} test, %; protocol {protocol}, {ties} ties"]
    lines.append(splits.told(found["split"]))
    for title, slices in found["slices"].items():
        rows = [
            (label, f"{of['mentions']:,}", *(_shown(of, name, several=found["seeds"] > 1) for name in SHOWN))
            for label, of in slices.items()
        ]
        lines += ["", table((title, "mentions", *SHOWN), rows)]
    lines += [f"left out: {title}, since {why}" for title, why in found["left_out"].items()]
    return "\n".join([*lines, *(printable(f"warning: {warning}") for warning in found["warnings"])])


def _shown(of: dict[str, Any], name: str, *, several: bool) -> str:
    return percent(of["mean"][name], of["std"][name] if several else None)


def _measure(slicing: Slicing, labels: np.ndarray, seeds: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """Return of each slice that has a mention its size, and its metrics over the seeds."""
    found = {}
    present = set(labels.tolist())
    for label in [*(name for name in slicing.order if name in present), *sorted(present - set(slicing.order))]:
        inside = torch.from_numpy(labels == label)
        measured = [metrics.summarize(seed["better"][inside], seed["tied"][inside]) for seed in seeds]
        values = {name: [of[name] for of in measured] for name in SHOWN}
        found[label] = {
            "mentions": int(inside.sum()),
            "mean": {name: statistics.fmean(of) for name, of in values.items()},
            "std": {name: statistics.stdev(of) if len(of) > 1 else 0.0 for name, of in values.items()},
        }
    return found


def _by_gold(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    gold = columns["mention.ids.gold"]
    seen = np.isin(gold[rows], gold[columns["mention.ids.splits"] & 1 == 1])
    return np.where(gold[rows] < 0, NIL, np.where(seen, "seen", "not seen"))


def _by_surface(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Count the golds that a mention's string has in train, each once."""
    surface, gold = columns["mention.ids.surface"], columns["mention.ids.gold"]
    strings, place = np.unique(surface, return_inverse=True)
    train = (columns["mention.ids.splits"] & 1 == 1) & (gold >= 0)
    pairs = np.unique(np.stack([place[train], gold[train]]), axis=1)
    meanings = np.bincount(pairs[0], minlength=len(strings))[place[rows]]
    return np.select([meanings == 0, meanings == 1, meanings <= 5], MEANINGS[:3], MEANINGS[3])


def _by_type(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    names = np.array([kind.decode(errors="replace") or "none" for kind in columns["mention.ids.type"][rows].tolist()])
    return names.astype(str)


def _by_mention_picture(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return np.where(columns["mention.ids.image_status"][rows] == 0, "present", "missing")


def _by_gold_picture(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    gold = columns["mention.ids.gold"][rows]
    there = np.where(columns["entity.ids.image_status"][gold] == 0, "present", "missing")  # -1 reads the last one
    return np.where(gold < 0, NIL, there)


MEANINGS = ("none", "1", "2 to 5", "more than 5")
_GOLD = (SPLITS, "mention.ids.gold")
SLICINGS = {
    "gold": (Slicing("gold entity in train", _GOLD, _by_gold, ("seen", "not seen", NIL)),),
    "surface": (Slicing("meanings of the string in train", (*_GOLD, "mention.ids.surface"), _by_surface, MEANINGS),),
    "type": (Slicing("mention type", ("mention.ids.type",), _by_type),),
    "picture": (
        Slicing("mention picture", ("mention.ids.image_status",), _by_mention_picture, ("present", "missing")),
        Slicing(
            "picture of gold",
            ("mention.ids.gold", "entity.ids.image_status"),
            _by_gold_picture,
            ("present", "missing", NIL),
        ),
    ),
}
