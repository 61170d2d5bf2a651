"""`melcache slices`: a finished run's accuracy on parts of its test split, from the ranks that it kept.

Beside it stands the string matcher's, and how often one of both is right: where it wins, where the head, where neither.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from common.errors import ConfigError
from common.foreign import printable
from common.output import percent, table
from train.config.inspecting import SlicesConfig
from train.data import ambiguity, splits
from train.evaluating import metrics
from train.inspecting.finished_run import cache_of, results_of
from train.optimizing import checkpoint

SHOWN = ("top1", "lexical", "either", "top5", "mrr", "recall")
LISTS = ("pair.candidates.candidates", "pair.candidates.lexical", "pair.candidates.gold")
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

    `lexical` is the Top-1 of the string matcher in the cache's lists, `either` that of whichever of both is right.
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
    matcher, found, left_out = lexical(reader, rows), {}, {}
    for slicing in (slicing for name in config.by for slicing in SLICINGS[name]):
        if missing := [name for name in slicing.reads if name not in reader.columns]:
            left_out[slicing.title] = f"{reader.path} lacks {', '.join(missing)}"
            continue
        columns = {name: reader.column(name) for name in slicing.reads}
        if SPLITS in columns:
            columns[SPLITS] = splits.masks(reader, results["split"]["valid_from"])
        found[slicing.title] = _measure(slicing, slicing.label(columns, rows.numpy()), seeds, matcher)
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


def lexical(reader: Reader, rows: Tensor) -> Tensor:
    """Return the expected Top-1 of the string matcher of mention rows (n,), float64 (n,)."""
    candidates, lexical, gold = (torch.from_numpy(np.array(reader.column(name)))[rows] for name in LISTS)
    return metrics.per_mention(*metrics.ranks(lexical, gold.long().clamp(min=-1), candidates >= 0), "top1")


def _measure(
    slicing: Slicing, labels: np.ndarray, seeds: Sequence[dict[str, Tensor]], matcher: Tensor
) -> dict[str, Any]:
    """Return of each slice that has a mention its size, and its metrics over the seeds.  matcher (n,): its hits."""
    found = {}
    present = set(labels.tolist())
    for label in [*(name for name in slicing.order if name in present), *sorted(present - set(slicing.order))]:
        inside = torch.from_numpy(labels == label)
        measured = [_of_slice(seed["better"][inside], seed["tied"][inside], matcher[inside]) for seed in seeds]
        values = {name: [of[name] for of in measured] for name in SHOWN}
        found[label] = {
            "mentions": int(inside.sum()),
            "mean": {name: statistics.fmean(of) for name, of in values.items()},
            "std": {name: statistics.stdev(of) if len(of) > 1 else 0.0 for name, of in values.items()},
        }
    return found


def _of_slice(better: Tensor, tied: Tensor, matcher: Tensor) -> dict[str, float]:
    own = metrics.per_mention(better, tied, "top1")
    beside = {"lexical": float(matcher.mean()), "either": float(torch.maximum(own, matcher).mean())}
    return metrics.summarize(better, tied) | beside


def _by_matches(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return _counted(ambiguity.matches(*(columns[name][rows] for name in ambiguity.READS)))


def _by_name(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Compare strings but for case with the names of gold and of all entities."""
    surfaces, names = (columns[name] for name in _STRINGS)
    asked, gold = _folded(surfaces[rows]), columns["mention.ids.gold"][rows]
    wanted, known = set(asked), set[str]()
    for begin in range(0, len(names), NAMES):  # all at once are half a GB of Python's, for 6,000,000
        known |= wanted.intersection(_folded(names[begin : begin + NAMES]))
    named = zip(_folded(names[gold.clip(min=0)]), asked, strict=True)
    own = (gold >= 0) & np.array([name == surface for name, surface in named], bool)
    other = np.array([surface in known for surface in asked], bool)
    return np.select([own, other], NAMED[:2], NAMED[2])


def _folded(strings: np.ndarray) -> list[str]:
    return [text.decode(errors="replace").casefold() for text in strings.tolist()]


def _by_release(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return _counted(_meanings(columns, columns["mention.ids.gold"] >= 0)[rows])


def _by_gold(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    gold = columns["mention.ids.gold"]
    seen = np.isin(gold[rows], gold[columns["mention.ids.splits"] & 1 == 1])
    return np.where(gold[rows] < 0, NIL, np.where(seen, "seen", "not seen"))


def _by_surface(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    train = (columns["mention.ids.splits"] & 1 == 1) & (columns["mention.ids.gold"] >= 0)
    return _counted(_meanings(columns, train)[rows])


def _meanings(columns: Mapping[str, np.ndarray], known: np.ndarray) -> np.ndarray:
    """Count the golds that each mention's string has in those that are `known`, each once.  (N,) -> (N,)"""
    strings, place = np.unique(columns["mention.ids.surface"], return_inverse=True)
    pairs = np.unique(np.stack([place[known], columns["mention.ids.gold"][known]]), axis=1)
    return np.bincount(pairs[0], minlength=len(strings))[place]


def _counted(meanings: np.ndarray) -> np.ndarray:
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


NAMES = 1 << 16  # of entities, at a time
MEANINGS = ("none", "1", "2 to 5", "more than 5")
NAMED = ("gold", "another entity", "no entity")
_GOLD = (SPLITS, "mention.ids.gold")
_STRINGS = ("mention.ids.surface", "entity.ids.name")
SLICINGS = {
    "matches": (Slicing("entities that match the string best", ambiguity.READS, _by_matches, MEANINGS),),
    "release": (
        Slicing(
            "meanings of the string in the release", ("mention.ids.gold", "mention.ids.surface"), _by_release, MEANINGS
        ),
    ),
    "name": (Slicing("the string is the name of", ("mention.ids.gold", *_STRINGS), _by_name, NAMED),),
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
