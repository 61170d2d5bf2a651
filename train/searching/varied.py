"""The knobs that a search varies: `--vary NAME=A,B`, `NAME=LOW..HIGH` or `NAME=log:LOW..HIGH`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from common.errors import ConfigError
from common.options import value_of
from common.words import one_of
from train.config import DECISIVE, TrainConfig
from train.config.studies import FIXED, SweepConfig
from train.heads.head_config import HeadConfig


@dataclasses.dataclass(frozen=True)
class Varied:
    """One knob of a search: its choices, or a range from `low` to `high`, both included."""

    name: str
    kind: type
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    def distribution(self, optuna: Any) -> Any:
        """Return what Optuna draws from: of choices their texts, else numbers."""
        if self.choices:
            return optuna.distributions.CategoricalDistribution(self.choices)
        kind = optuna.distributions
        found = kind.IntDistribution if self.kind is int else kind.FloatDistribution
        return found(self.kind(self.low), self.kind(self.high), log=self.log)

    def value(self, params: Mapping[str, Any]) -> Any:
        """Return the knob's value of what was drawn.  Raises ConfigError for what it cannot have drawn."""
        drawn = params.get(self.name)
        if self.choices:
            if drawn not in self.choices:
                raise ConfigError(f"{self.name} is none of {', '.join(self.choices)}")
            return value_of(self.kind, drawn)
        if type(drawn) is not self.kind or not self.low <= drawn <= self.high:
            raise ConfigError(f"{self.name} is not between {self.low} and {self.high}")
        return drawn


def parse(text: str, config: SweepConfig, head: HeadConfig) -> Varied:
    """Return the knob that `text` (NAME=A,B or NAME=LOW..HIGH or NAME=log:LOW..HIGH) describes."""
    name, found, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    own = {field.name: get_type_hints(type(head))[field.name] for field in dataclasses.fields(head) if field.metadata}
    hints = {key: get_type_hints(TrainConfig)[key] for key in DECISIVE if key not in FIXED} | own
    if not found or name not in hints:
        raise ConfigError(f"--vary {text}: expected KNOB=VALUES, KNOB one of {one_of(name, sorted(hints))}")
    hint = next((known for known in get_args(hints[name]) if get_args(hints[name])[1:] == (type(None),)), hints[name])
    kind = get_origin(hint) or hint
    kind = str if kind not in (int, float, bool, tuple) else kind
    try:
        knob = _range(name, kind, values) if ".." in values else _choices(name, kind, values)
        ends = [knob.low, knob.high] if not knob.choices else [value_of(kind, choice) for choice in knob.choices]
    except ValueError:
        what = f"{name}=A,B,C of different {kind.__name__}s"
        raise ConfigError(f"--vary {text}: expected {what}, or a range LOW..HIGH of numbers") from None
    for end in ends:  # a config refuses what it cannot be
        changed = dataclasses.replace(config if name in DECISIVE else head, **{name: end})
        known = get_args(hint) if get_origin(hint) is not tuple else ()
        if known and getattr(changed, name) not in known:
            raise ConfigError(f"--vary {text}: {end} is none of {', '.join(map(str, known))}")
    return knob


def _choices(name: str, kind: type, text: str) -> Varied:
    choices = tuple(choice.strip() for choice in text.split(","))
    if "" in choices or len({value_of(kind, choice) for choice in choices}) < len(choices):
        raise ValueError
    return Varied(name, kind, choices)


def _range(name: str, kind: type, text: str) -> Varied:
    log = text.startswith("log:")
    low, high = (kind(value) for value in text.removeprefix("log:").split(".."))
    if kind not in (int, float) or not low < high < math.inf or (log and low <= 0):
        raise ValueError
    return Varied(name, kind, low=low, high=high, log=log)
