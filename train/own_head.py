"""A head of one's own: `--model FILE.py`, a file with the names Reads, Config and Model; CONTRIBUTING.md shows one."""

import dataclasses
import types
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cache.edges import EDGES
from cache.kinds import KINDS
from cache.names import ColumnName
from cache.schema import ALWAYS, PARTS, SEQUENCES
from common import own_file
from common.errors import ConfigError
from common.options import WRITTEN, value_of
from common.paths import check_name
from common.words import nearest, one_of
from train.config import TrainConfig
from train.config.studies import CompareConfig
from train.heads import registry
from train.heads.entry import Entry
from train.heads.head_config import HeadConfig

NEEDED = ("READS", "Config", "Model")
ITEMS = (int, float, bool, str)
TYPES = "int, float, bool, str, a Literal of these, a tuple such as tuple[int, ...], or one of them | None"


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


def load_for(file: str, run: Path, model: str) -> None:
    """Make the head in a file known, of which a run is; its head is called `model`.  Raises ConfigError."""
    if not file.endswith(".py") or Path(file).stem != model:
        raise ConfigError(f"--model {file}: {run} is of the head {model:.60}; expected its file, {model:.60}.py")
    _known(Path(file))


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
        chosen[name] = _value(_alternatives(hints[name])[0], option, text)
    try:
        return kind(**chosen)
    except ValueError as error:  # of a __post_init__
        said = f"--option {' '.join(options)}" if options else "its defaults"
        raise ConfigError(f"{said}: {kind.__name__} refuses: {error}") from None


def _value(hint: Any, option: str, text: str) -> Any:
    """Return the text of an option as a value of its type.  Raises ConfigError."""
    if get_origin(hint) is Literal:
        known = {str(choice): choice for choice in get_args(hint)}
        if text not in known:
            raise ConfigError(f"--option {option}: choose from {', '.join(known)}")
        return known[text]
    several = get_origin(hint) is tuple
    item = get_args(hint)[0] if several else hint
    try:
        if not text.isprintable():  # what describes a run is read again
            raise ValueError
        return value_of(tuple if several else hint, text, item)
    except ValueError:
        raise ConfigError(f"--option {option}: expected {WRITTEN[item]}{', joined by +' * several}") from None


def _alternatives(hint: Any) -> list[Any]:
    """Return what a field may be beside None."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [part for part in parts if part is not type(None)]


def _is_option(hint: Any) -> bool:
    """Whether --option can give values of a type, and a run's identity can hold them."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return all(type(choice) in ITEMS for choice in inner)
    if get_origin(hint) is tuple:
        return bool(inner) and inner[0] in ITEMS and set(inner[1:]) <= {inner[0], ...}
    return hint in ITEMS


def _knob(option: str) -> str:
    return option.partition("=")[0].strip().replace("-", "_")


def _known(path: Path) -> str:
    """Load a file's head and make it known by the file's name, which is returned."""
    registry.add(load(path))
    return path.stem


def load(path: Path) -> Entry:
    """Return the head that a file holds.  Raises ConfigError for a file without one."""
    if path.stem in registry.OURS:
        raise ConfigError(f"--model {path}: {path.stem} is a head of melcache; give the file another name")
    check_name(path.stem, "--model")
    module = _imported(path)
    reads = tuple(dict.fromkeys([*ALWAYS, *module.READS, *_companions(module.READS)]))
    return Entry(path.stem, _config(module.Config, path), f"{module.__name__}:Model", reads, file=path)


def _config(kind: Any, path: Path) -> type[HeadConfig]:
    """Return the options of a head's file as a HeadConfig; `tokens` and `characters` bound what it reads.

    What HeadConfig says of a head and the file's class does, too, holds as the file says it. Raises ConfigError.
    """
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        raise ConfigError(f"{path}: Config must be a dataclass")
    hints = _checked_hints(kind, path)
    if issubclass(kind, HeadConfig):
        return kind
    bounds = {"tokens_read": "tokens", "bytes_read": "characters"}
    said: dict[str, Any] = {bound: property(attrgetter(knob)) for bound, knob in bounds.items() if knob in hints}
    of_head = hints.keys() & vars(HeadConfig).keys()
    meant = {name: _return_of(vars(HeadConfig)[name]) for name in of_head} | dict.fromkeys(bounds.values(), int)
    for name, hint in hints.items():
        if meant.get(name, hint) != hint:
            raise ConfigError(f"{path}: Config.{name} means something of every head (HeadConfig): rename it")
    said |= dict.fromkeys(of_head)  # fields, not properties
    return type(kind.__name__, (kind, HeadConfig), said)


def _return_of(member: Any) -> Any:
    """Return the type of a property, None for a method."""
    return get_type_hints(member.fget)["return"] if isinstance(member, property) else None


def _checked_hints(kind: type, path: Path) -> dict[str, Any]:
    """Return the types of the options by name.  Raises ConfigError for those that --option could not give."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{path}: the type of a field of Config is not known: {error}") from None
    fields = dataclasses.fields(kind)
    for field in fields:
        if not field.init or {field.default, field.default_factory} == {dataclasses.MISSING}:
            raise ConfigError(f"{path}: Config.{field.name} needs a default that an option may replace")
        if not all(map(_is_option, _alternatives(hints[field.name]) or [None])):
            raise ConfigError(f"{path}: Config.{field.name} is none of the types of options: {TYPES}")
    return {field.name: hints[field.name] for field in fields}


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
    module, _ = own_file.load(path, "head", "--model", NEEDED, "'A new head' in CONTRIBUTING.md")
    if not isinstance(module.READS, tuple):
        raise ConfigError(f"{path}: READS must be a tuple of column names; one alone needs a comma behind it")
    unknown = [name for name in map(ColumnName, module.READS) if name.column not in PARTS.get(name.part, {})]
    if unknown:
        near = nearest(unknown[0], [f"{part}.{column}" for part, columns in PARTS.items() for column in columns])
        raise ConfigError(f"{path}: READS names {unknown[0]}, which is no column{near}; FORMAT.md lists them")
    return module
