"""Knobs: the fields of a frozen dataclass, whose types, defaults and helps become options of a command."""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from common.errors import ConfigError

Knob = tuple[dataclasses.Field[Any], Any]  # and its type
TRUTH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
# what a person has to write for a value of a type
WRITTEN = {int: "a whole number", float: "a number", bool: "yes or no (true or false, 1 or 0)", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Given:
    """A config class and the values of its knobs that the command line gave."""

    kind: type
    values: dict[str, Any]

    def config(self) -> Any:
        """Return the config.  Raises ConfigError for a choice that only other classes have; else as the class."""
        for name, (field, hint) in knobs(self.kind).items():
            if name in self.values and (known := choices(hint)) and self.values[name] not in known:
                raise ConfigError(
                    f"{flag_of(field)} {self.values[name]}: {field.metadata['panel']} has {', '.join(known)}"
                )
        return self.kind(**self.values)


def knob(
    default: Any,
    text: str,
    *,
    panel: str | None = None,
    also: tuple[str, ...] = (),
    flag: str | None = None,
    argument: str | None = None,
    metavar: str | None = None,
    machine: bool = False,
) -> Any:
    """Declare a config field that is also a command-line option with help `text`; MISSING as default: it is required.

    `flag` is the option's name where the field cannot have it (`for` is a word of Python); `also` are more names;
    `metavar` stands for its value in help. With `argument`, which is then its metavar, it is written without a name. A
    knob of the `machine` says where and how the work is done, and decides no result.
    """
    told = {"help": text, "panel": panel, "also": also, "flag": flag, "argument": argument, "metavar": metavar}
    return dataclasses.field(default=default, metadata=told | {"machine": machine})


def value_of(kind: Callable[[str], Any], text: str, item: Callable[[str], Any] = str) -> Any:
    """Return a text as a knob's type; the `item`s of a tuple are joined by +.  Raises ValueError."""
    if kind is tuple:
        return tuple(value_of(item, part) for part in text.split("+"))
    if kind is bool:
        if text.lower() not in TRUTH:
            raise ValueError
        return TRUTH[text.lower()]
    return kind(text)


def as_json(config: Any) -> dict[str, Any]:
    """Return a config as JSON values; paths as strings, tuples as lists.  None, a head without options, is {}.

    Raises ConfigError for a number that JSON has not, or that no reader of runs takes: what describes a run is known
    before it begins.
    """
    return {} if config is None else {key: _json(key, value) for key, value in dataclasses.asdict(config).items()}


def as_words(config: Any) -> list[str]:
    """Return the options of a command line that make this config: of all knobs that are not at their default."""
    given = {field: getattr(config, field.name) for field in dataclasses.fields(config)}
    return [word for field, value in given.items() if value != field.default for word in _words(field, value)]


def given_words(given: Sequence[Given]) -> list[str]:
    """Return the options of a command line that give these values; a knob that several classes have once."""
    found = {}
    for one in given:
        for name, (field, _) in knobs(one.kind).items():
            if name in one.values:
                found[flag_of(field)] = _words(field, one.values[name])
    return [word for words in found.values() for word in words]


def _words(field: dataclasses.Field[Any], value: Any) -> list[str]:
    flag = flag_of(field)
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list):
        return [word for item in value for word in (flag, str(item))]
    return [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def from_json(kind: type, values: Mapping[str, Any]) -> Any:
    """Return the config of a class whose `as_json` these values are.  Raises ConfigError for any other value."""
    hints, chosen = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in values or not _fits(values[field.name], hints[field.name]):
            raise ConfigError(f"{field.name} is not one that {kind.__name__} has")
        value, is_path = values[field.name], Path in (hints[field.name], *get_args(hints[field.name]))
        chosen[field.name] = tuple(value) if isinstance(value, list) else Path(value) if is_path and value else value
    return kind(**chosen)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is one of the type."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inner
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if kind in (tuple, list):
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if hint in (float, Path):
        return type(value) in ((int, float) if hint is float else (str,))
    return value is None if hint is type(None) else type(value) is hint


def _json(key: str, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_json(key, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"--{key.replace('_', '-')} is {value}; it must be finite")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ConfigError(f"--{key.replace('_', '-')} has {len(str(abs(value)))} digits: it must be less than 2^63")
    return value if isinstance(value, (int, float, bool, str, type(None))) else str(value)


def knobs(config: type) -> dict[str, Knob]:
    """Return the knobs of a config class by name."""
    hints = get_type_hints(config)
    return {f.name: (f, hints[f.name]) for f in dataclasses.fields(config) if "help" in f.metadata}


def choices(hint: Any) -> tuple[str, ...]:
    """Return what a knob may be, where its type says so, be it None, too."""
    found = [hint, *get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]
    return next((get_args(kind) for kind in found if get_origin(kind) is Literal), ())


def flag_of(field: dataclasses.Field[Any]) -> str:
    """Return the option of a knob as it is typed."""
    return field.metadata["flag"] or "--" + field.name.replace("_", "-")
