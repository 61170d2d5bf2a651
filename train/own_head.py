"""A head of one's own: `--model FILE.py`, a file with the names Reads, Config and Model; CONTRIBUTING.md shows one."""

import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cache.edges import EDGES
from cache.kinds import KINDS
from cache.names import ColumnName
from cache.schema import ALWAYS, PARTS, SEQUENCES
from common.errors import ConfigError
from common.options import WRITTEN, value_of
from common.paths import is_file
from common.words import nearest, one_of
from train.config import CompareConfig, TrainConfig
from train.heads import registry
from train.heads.entry import Entry
from train.heads.head_config import HeadConfig

NEEDED = ("READS", "Config", "Model")


def resolve(config: TrainConfig) -> TrainConfig:
    """Return the config with its head's name, after loading the file if `model` is one.  Raises ConfigError."""
    if not config.model.endswith(".py"):
        if config.option:
            raise ConfigError(
                f"--option is for a head of your own (--model FILE.py); {config.model} has its own options"
            )
        return config
    return dataclasses.replace(config, model=_known(Path(config.model)))


def resolve_all(config: CompareConfig) -> CompareConfig:
    """Return the config with the names of its heads, after loading those that are files.  Raises ConfigError."""
    asked = [*config.models, *([config.baseline] if config.baseline else [])]
    files = list(dict.fromkeys(name for name in asked if name.endswith(".py")))
    if config.option and not files:
        raise ConfigError("--option is for heads of your own (--models FILE.py); the others have options of their own")
    names: dict[str, str] = {}
    for file in files:
        names[file] = _known(Path(file))
        if list(names.values()).count(names[file]) > 1:
            raise ConfigError(f"--models names two files {names[file]}.py: give one of them another name")
    models = tuple(names.get(model, model) for model in config.models)
    return dataclasses.replace(config, models=models, baseline=names.get(config.baseline or "", config.baseline))


def shared(entries: Sequence[Entry], options: Sequence[str]) -> dict[str, list[str]]:
    """Return which options (KNOB=VALUE) each head has, by its name.  Raises ConfigError for one that none has."""
    every = sorted({name for entry in entries for name in entry.options})
    if lost := [option for option in options if _knob(option) not in every]:
        raise ConfigError(f"--option {lost[0]}: expected KNOB=VALUE, KNOB one of {one_of(_knob(lost[0]), every)}")
    return {entry.name: [option for option in options if _knob(option) in entry.options] for entry in entries}


def configure(kind: type[Any], options: Sequence[str]) -> Any:
    """Return a config of the class with the fields that `options` (KNOB=VALUE) name.  Raises ConfigError."""
    hints, chosen = get_type_hints(kind), {}
    known = [field.name for field in dataclasses.fields(kind)]
    for option in options:
        name, (_, found, text) = _knob(option), option.partition("=")
        if not found or name not in known:
            raise ConfigError(f"--option {option}: expected KNOB=VALUE, KNOB one of {one_of(name, known)}")
        if name in chosen:
            raise ConfigError(f"--option {option}: {name} is given twice, and only one can count: leave one out")
        hint = next((part for part in get_args(hints[name]) if part in (int, float, bool, str)), hints[name])
        if get_origin(hints[name]) is tuple:
            hint = hints[name]
        to = get_origin(hint) or hint
        item = get_args(hint)[0] if to is tuple else str
        try:
            chosen[name] = value_of(to if to in (int, float, bool, tuple) else str, text, item)
        except ValueError:
            wanted = WRITTEN.get(item if to is tuple else to, "a text")
            raise ConfigError(f"--option {option}: expected {wanted}{', joined by +' * (to is tuple)}") from None
        if get_origin(hint) is Literal and chosen[name] not in get_args(hint):
            raise ConfigError(f"--option {option}: choose from {', '.join(map(str, get_args(hint)))}")
    return kind(**chosen)


def _knob(option: str) -> str:
    return option.partition("=")[0].strip().replace("-", "_")


def _known(path: Path) -> str:
    """Load a file's head and make it known by the file's name, which is returned."""
    registry.add(load(path))
    return path.stem


def load(path: Path) -> Entry:
    """Return the head that a file holds.  Raises ConfigError for a file without one."""
    if not is_file(path):
        raise ConfigError(f"--model {path}: there is no such file")
    if path.stem in registry.OURS:
        raise ConfigError(f"--model {path}: {path.stem} is a head of melcache; give the file another name")
    module = _imported(path)
    reads = tuple(dict.fromkeys([*ALWAYS, *module.READS, *_companions(module.READS)]))
    return Entry(path.stem, _config(module.Config), f"{module.__name__}:Model", reads, file=path)


def _config(kind: type) -> type[HeadConfig]:
    """Return the options of a head's file as a HeadConfig; `tokens` and `characters` bound what it reads.

    What HeadConfig says of a head and the file's class does, too, holds as the file says it.
    """
    if not dataclasses.is_dataclass(kind):
        raise ConfigError(f"Config of {kind.__module__.removeprefix('head_')}.py must be a dataclass")
    if issubclass(kind, HeadConfig):
        return kind
    names = {field.name for field in dataclasses.fields(kind)}
    bounds = {"tokens_read": "tokens", "bytes_read": "characters"}
    said: dict[str, Any] = {bound: property(attrgetter(knob)) for bound, knob in bounds.items() if knob in names}
    said |= dict.fromkeys(names & vars(HeadConfig).keys())  # fields, not properties
    return type(kind.__name__, (kind, HeadConfig), said)


def _companions(columns: Sequence[str]) -> list[str]:
    """Return what a batch needs to hold these columns: which pictures are there, where tokens lie, all alignments."""
    found: list[str] = []
    for name in map(ColumnName, columns):
        part = name.part
        if name.column in KINDS[part].from_picture and KINDS[part].neutral:
            found.append(part.column("present"))
        if name.table in SEQUENCES:
            found += [f"{SEQUENCES[name.table]}.first", f"{SEQUENCES[name.table]}.count"]
        if part == "pair.alignment":  # a batch holds all four as one
            found += [edge.column for edge in EDGES]
    return found


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"head_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a name that ends with .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)  # an error in it is its author's, who wants the traceback
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; see 'A new head' in CONTRIBUTING.md")
    if not isinstance(module.READS, tuple):
        raise ConfigError(f"{path}: READS must be a tuple of column names; one alone needs a comma behind it")
    unknown = [name for name in map(ColumnName, module.READS) if name.column not in PARTS.get(name.part, {})]
    if unknown:
        near = nearest(unknown[0], [f"{part}.{column}" for part, columns in PARTS.items() for column in columns])
        raise ConfigError(f"{path}: READS names {unknown[0]}, which is no column{near}; FORMAT.md lists them")
    return module
