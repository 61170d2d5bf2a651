"""What the JSON of a run folder must look like, field by field: of results.json, and of what a checkpoint says.

Each check returns the value it was given. Raises ConfigError naming the first field that is not as it must be; fields
that are not named here may be anything.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from common.errors import ConfigError
from common.records import SPLITS
from train.checks import HELD_OUT
from train.config import KS, OBJECTIVES, PROTOCOLS

Check = Callable[[Any], bool]
MAX_TEXT, MAX_PATH = 10_000, 4_096
METRICS = (*(f"top{k}" for k in KS), "mrr", "recall", "top1_of_retrieved", "top1_of_ambiguous", "recall_of_ambiguous")
CONFIDENCE = (
    "temperature",
    "nil_below",
    "ece",
    "area_under_risk",
    "abstained",
    "nil",
    "nil_accuracy",
    "accuracy_with_nil",
)
NONE: dict[str, Check] = {}


def identity(value: Any) -> dict[str, Any]:
    """Check the identity of a checkpoint's run, `run.identity`."""
    _fields(value, _IDENTITY, "its identity", {"objective": lambda name: name in OBJECTIVES})
    if not _about(value):
        raise ConfigError("its identity holds what no run's has")
    return value


def seed_result(value: Any) -> dict[str, Any]:
    """Check the result of one seed, as a finished checkpoint and results.json hold it."""
    _fields(value, _SEED, "its result", {"valid": _metrics})
    epochs = [epoch["epoch"] for epoch in value["history"]]
    if epochs != list(range(1, len(epochs) + 1)) or value["epoch"] > len(epochs):
        raise ConfigError("its history is not that of a training, epoch after epoch")
    return value


def half_done(value: Any) -> dict[str, Any]:
    """Check what is known of seeds in training: the description that `Training.keep` writes."""
    _fields(value, _HALF, "its description")
    seeds, epoch = value["seeds"], value["epoch"]
    held = (value[name] for name in ("history", "best_epoch", "untrained"))
    if {len(seeds), len(set(seeds)), *map(len, held)} != {len(seeds)} or not seeds:
        raise ConfigError("it does not say of each of its seeds once how far it is")
    for history, best, untrained in zip(value["history"], value["best_epoch"], value["untrained"], strict=True):
        epochs = [known["epoch"] for known in history]
        least = 1 if untrained is None else 0
        if epochs != list(range(1, len(epochs) + 1)) or not least <= best <= len(epochs) <= epoch:
            raise ConfigError("its history is not that of a training, epoch after epoch")
    return value


def results(value: Any) -> dict[str, Any]:
    """Check the content of results.json."""
    _fields(value, _RESULTS, "it", {"parts": _digests, "confidence": _confidence})
    for seed in value["seeds"]:
        seed_result(seed)
    if len({seed["seed"] for seed in value["seeds"]}) != len(value["seeds"]):
        raise ConfigError("it holds a seed twice")
    return value


def trials(value: Any) -> dict[str, Any]:
    """Check the content of trials.json."""
    _fields(value, {"about": _about, "trials": lambda found: isinstance(found, list)}, "it")
    for trial in value["trials"]:
        _fields(trial, _TRIAL, "a trial")
        if trial["value"] is not None and not _metrics(trial["test"]):
            raise ConfigError("a trial has a value, but no test")
    return value


def _fields(value: Any, wanted: Mapping[str, Check], where: str, more: Mapping[str, Check] = NONE) -> dict[str, Any]:
    """Return the value if it has the fields wanted, and those as they must be; `more` may lack."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is not an object")
    if lost := sorted(wanted.keys() - value.keys()):
        raise ConfigError(f"{where} lacks {lost[0]}")
    for name, good in (wanted | more).items():
        if name in value and not good(value[name]):
            raise ConfigError(f"{where} holds a {name} that no run has")
    return value


def _plain(value: Any) -> bool:
    return value is None or _number(value) or _flag(value) or _text(value)


def _number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 63)  # the parser refuses infinity and NaN


def _positive(value: Any) -> bool:
    return _number(value) and value >= 0


def _fraction(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1 + 1e-6  # a quotient of two may be rounded up


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_count, value))


def _flag(value: Any) -> bool:
    return type(value) is bool


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _about(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _text(name) and all(map(_plain, held if isinstance(held, list) else [held])) for name, held in value.items()
    )


def _params(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _plain(drawn) for name, drawn in value.items())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _hex(digits: int) -> Check:
    pattern = re.compile(f"[0-9a-f]{{{digits}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _digests(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _hex(64)(held) for name, held in value.items())


def _metrics(value: Any) -> bool:
    """Whether it is what metrics.summarize returns."""
    return (
        isinstance(value, dict)
        and all(_fraction(value.get(name)) for name in METRICS)
        and _positive(value.get("mean_rank"))
        and _positive(value.get("mentions"))
        and _positive(value.get("ambiguous"))
        and all(_text(name) and _number(held) for name, held in value.items())
    )


def _spread(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _positive(held) for name, held in value.items())


def _by_split(good: Check) -> Check:
    """Whether it is of test, and of valid if that was measured."""
    return lambda value: isinstance(value, dict) and "test" in value and all(map(good, value.values()))


def _held_out(value: Any) -> bool:
    return value is None or (isinstance(value, str) and HELD_OUT.fullmatch(value) is not None)


def _split(value: Any) -> bool:
    """Whether it is what splits.describe returns."""
    return (
        isinstance(value, dict)
        and _hex(64)(value.get("digest"))
        and (value.get("known") is None or _text(value["known"]))
        and _held_out(value.get("valid_from"))
    )


def _unlabeled(value: Any) -> bool:
    return isinstance(value, dict) and all(_count(value.get(split)) for split in SPLITS)


def _confidence(value: Any) -> bool:
    """Whether it is what judging.confidence returns, or None."""
    if value is None:
        return True
    seeds, mean = (value.get(name) for name in ("seeds", "mean")) if isinstance(value, dict) else (None, None)
    if not isinstance(seeds, list) or not seeds or not all(isinstance(found, dict) for found in (mean, *seeds)):
        return False
    numbers = all(_positive(found.get(name)) for found in (mean, *seeds) for name in CONFIDENCE)
    return numbers and all(_count(seed.get("seed")) and _points(seed.get("risk_coverage")) for seed in seeds)


def _points(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_fraction, point)) for point in value
    )


def _ties(value: Any) -> bool:
    return isinstance(value, dict) and all(_metrics(value.get(rule)) for rule in ("optimistic", "pessimistic"))


def _history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(epoch, dict)
        and _count(epoch.get("epoch"))
        and _number(epoch.get("loss"))
        and _metrics(epoch.get("valid"))
        for epoch in value
    )


def _histories(value: Any) -> bool:
    return isinstance(value, list) and all(map(_history, value))


def _used(value: Any) -> bool:
    """Whether it is a run's config, of which readers need to know where the cache is."""
    paths = (value.get("dataset"), value.get("shards")) if isinstance(value, dict) else (None,)
    return all(isinstance(path, str) and len(path) <= MAX_PATH for path in paths)  # of any characters


_IDENTITY: dict[str, Check] = {
    "model": _text,
    "cache_id": _hex(64),
    "split": _hex(64),
    "valid_from": _held_out,
    "code": _hex(16),
    "with_lexical": _flag,
}
_SEED: dict[str, Check] = {
    "seed": _count,
    "epoch": _count,
    "test": _metrics,
    "ties": _ties,
    "seconds": _positive,
    "history": _history,
}
_HALF: dict[str, Check] = {
    "seeds": _counts,
    "epoch": _count,
    "seconds": _positive,
    "history": _histories,
    "best_epoch": _counts,
    "untrained": lambda value: isinstance(value, list) and all(found is None or _metrics(found) for found in value),
}
_TRIAL: dict[str, Check] = {
    "params": _params,
    "value": lambda value: value is None or _number(value),
    "error": lambda value: value is None or _text(value),
    "test": lambda value: value is None or isinstance(value, dict),
}
_RESULTS: dict[str, Check] = {
    "model": _text,
    "name": _text,
    "config": _used,
    "dataset": _text,
    "split": _split,
    "unlabeled": _unlabeled,
    "protocol": lambda value: value in PROTOCOLS.values(),
    "watched": lambda value: value in PROTOCOLS.values(),
    "ranked": lambda value: value in ("list", "best", "all"),
    "tie_rule": _text,
    "cache_id": _hex(64),
    "warnings": _texts,
    "candidates": _count,
    "entities": _count,
    "recall_ceiling": _by_split(_fraction),
    "lexical": _by_split(_metrics),
    "mean": _by_split(_metrics),
    "std": _by_split(_spread),
    "ties": _ties,
    "seeds": lambda value: isinstance(value, list) and len(value) > 0,
    "seconds": _positive,
}
