"""A frozen dataclass is a command line: each field's type, default and help become one option."""

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from common import console, places
from common.errors import ConfigError, MelcacheError

Config = TypeVar("Config")
Knob = tuple[dataclasses.Field[Any], Any]  # and its type
TRUTH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
# what a person has to write for a value of a type
WRITTEN = {int: "a whole number", float: "a number", bool: "yes or no (true or false, 1 or 0)", str: "a text"}


class _Once:
    """A command that refuses an option given twice, of which click would keep the last in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as click does."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if given.count(option) > 1 and not option.multiple:
                name = "/".join([option.opts[0], *option.secondary_opts])
                ctx.fail(f"{name} is given twice, and only one of the two can count: leave one out")
        return super().parse_args(ctx, args)


class Command(_Once, TyperCommand):
    """A command whose options are given once, or are lists."""


class Group(_Once, TyperGroup):
    """A command with subcommands whose options are given once, or are lists."""


class App(typer.Typer):
    """A typer application of such commands."""

    def command(self, name: str | None = None, **given: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command."""
        return super().command(name, **{"cls": Command} | given)


@dataclasses.dataclass(frozen=True)
class Given:
    """A config class and the values of its knobs that the command line gave."""

    kind: type
    values: dict[str, Any]

    def config(self) -> Any:
        """Return the config.  Raises ConfigError for a choice that only other classes have; else as the class."""
        for name, (field, hint) in _knobs(self.kind).items():
            if name in self.values and (known := _choices(hint)) and self.values[name] not in known:
                raise ConfigError(
                    f"{_flag(field)} {self.values[name]}: {field.metadata['panel']} has {', '.join(known)}"
                )
        return self.kind(**self.values)


def knob(
    default: Any, text: str, *, panel: str | None = None, also: tuple[str, ...] = (), flag: str | None = None
) -> Any:
    """Declare a config field that is also a command-line option with help `text`.

    `flag` is the option's name where the field cannot have it (`for` is a word of Python); `also` are more names.
    """
    return dataclasses.field(default=default, metadata={"help": text, "panel": panel, "also": also, "flag": flag})


def command(
    app: typer.Typer, *configs: type, name: str | None = None, default: bool = False
) -> Callable[[Callable[..., None]], None]:
    """Register a function of one argument per config class as a command whose options are all their knobs.

    The function gets the first class's config, and of the others what was Given: the first gives the defaults that are
    shown, a knob of the others that is not given stays at the default of its class. MelcacheError becomes one line on
    stderr and the error's exit code, and so does a lack of memory. The `default` command is the one that runs where no
    other is named.
    """

    def register(run: Callable[..., None]) -> None:
        owners = [_knobs(config) for config in configs]

        def entry(context: typer.Context, **given: Any) -> None:
            if context.invoked_subcommand is not None:
                _refuse_options_before(context)
                return
            values = [
                {key: _parsed(given[key], hint) for key, (_, hint) in knobs.items() if given.get(key) is not None}
                for knobs in owners
            ]
            try:
                run(configs[0](**values[0]), *map(Given, configs[1:], values[1:]))
            except MelcacheError as error:
                console.complain(error)
                raise typer.Exit(error.exit_code) from None
            except (MemoryError, RuntimeError) as error:
                if not console.is_lack_of_memory(error):
                    raise
                console.complain(console.NO_MEMORY)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                console.tell("interrupted: what was finished is kept, the same command continues")
                raise typer.Exit(130) from None

        parameters: dict[str, inspect.Parameter] = {}
        for position, knobs in enumerate(owners):
            for key, (field, hint) in knobs.items():
                owned = [other[key] for other in owners if key in other]
                parameters.setdefault(key, _parameter(field, hint, owned if position > 0 else []))
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        entry.__signature__ = inspect.Signature([context, *parameters.values()])  # type: ignore[attr-defined]
        entry.__annotations__ = {p.name: p.annotation for p in (context, *parameters.values())}
        entry.__doc__ = run.__doc__
        register_as = (
            app.callback(cls=Group, invoke_without_command=True) if default else app.command(name, cls=Command)
        )
        register_as(entry)

    return register


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

    Raises ConfigError for a number that JSON has not: what describes a run is known before it begins.
    """
    return {} if config is None else {key: _json(key, value) for key, value in dataclasses.asdict(config).items()}


def from_json(kind: type, values: Mapping[str, Any]) -> Any:
    """Return the config of a class whose `as_json` these values are.  Raises ConfigError for any other value."""
    hints, chosen = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in values or not _fits(values[field.name], hints[field.name]):
            raise ConfigError(f"{field.name} is not one that {kind.__name__} has")
        value = values[field.name]
        chosen[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**chosen)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is one of the type."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inner
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if kind is tuple:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    return value is None if hint is type(None) else type(value) is hint


def _json(key: str, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_json(key, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"--{key.replace('_', '-')} is {value}; it must be finite")
    return value if isinstance(value, (int, float, bool, str, type(None))) else str(value)


def _knobs(config: type) -> dict[str, Knob]:
    hints = get_type_hints(config)
    return {f.name: (f, hints[f.name]) for f in dataclasses.fields(config) if "help" in f.metadata}


def _choices(hint: Any) -> tuple[str, ...]:
    """Return what a knob may be, where its type says so, be it None, too."""
    found = [hint, *get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]
    return next((get_args(kind) for kind in found if get_origin(kind) is Literal), ())


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata["flag"] or "--" + field.name.replace("_", "-")


def _parameter(field: dataclasses.Field[Any], hint: Any, owned: list[Knob]) -> inspect.Parameter:
    """Return the parameter of a knob; `owned` are the knobs of this name in classes that keep their own default."""
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    text, panel = field.metadata["help"], field.metadata["panel"]
    several = get_origin(hint) is tuple
    if several:  # items with commas, or given again
        text += f" \\[default: {_shown(default)}]" if default and not owned else ""
        hint, default = list[str], None
    if owned:  # None marks "not given", so the class's own default holds; its help says which
        text, panel, default = f"{_meanings(owned)}{_defaults(owned)}", _panel(owned), None
        if known := dict.fromkeys(choice for _, other in owned for choice in _choices(other)):
            hint = Literal[tuple(known)]  # Given refuses those of other classes
    if default is None and get_origin(hint) not in (Union, types.UnionType) and not required:
        hint = hint | None
    here = Path in (hint, *get_args(hint))
    flag = _flag(field)
    flags = (f"{flag}/--no-{flag[2:]}",) if hint in (bool, bool | None) else (flag, *field.metadata["also"])
    option = typer.Option(
        *flags,
        help=text,
        rich_help_panel=panel,
        metavar="LIST" if several else "PATH" if here else None,
        show_default=default is not None,
        parser=(lambda given: places.local(str(given))) if here else None,  # who opens a path says why it cannot
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[hint, option],
    )


def _shown(default: Any) -> Any:
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


def _panel(owned: list[Knob]) -> str:
    panels = {field.metadata["panel"] for field, _ in owned}
    return panels.pop() if len(panels) == 1 else "Several heads"


def _meanings(owned: list[Knob]) -> str:
    """Return what a knob means to each class that has it: "drin: hidden width; dzmned, mel_hi: width of the space"."""
    panels: dict[str, dict[str, None]] = {}
    for field, _ in owned:
        panels.setdefault(field.metadata["help"], {})[field.metadata["panel"]] = None
    if len({panel for named in panels.values() for panel in named}) == 1:
        return next(iter(panels))
    return "; ".join(f"{', '.join(named)}: {text}" for text, named in panels.items())


def _defaults(owned: list[Knob]) -> str:
    """Return the default of a knob, and what it is in other classes: " [default: 768; ghmfc: 512]"."""
    first, *others = (field for field, _ in owned)
    if first.default is None:  # its help says what decides
        return ""
    differ = {
        other.metadata["panel"]: _shown(other.default) for other in others if other.default not in (None, first.default)
    }
    listed = "".join(f"; {panel}: {value}" for panel, value in differ.items())
    return f" \\[default: {_shown(first.default)}{listed}]"  # a bare [ would begin rich markup


def _refuse_options_before(context: typer.Context) -> None:
    """Raise BadParameter for options that stand before a subcommand, which would not see them."""
    given = [key for key in context.params if context.get_parameter_source(key).name == "COMMANDLINE"]
    if given:
        raise typer.BadParameter(
            f"--{given[0].replace('_', '-')} belongs behind `{context.invoked_subcommand}`, whose option it becomes"
        )


def _parsed(value: Any, hint: Any) -> Any:
    """Return what the command line gave of a knob as its type; a list may have been given in several pieces."""
    if get_origin(hint) is not tuple:
        return value
    kind, text = get_args(hint)[0], ",".join(value)
    try:
        return tuple(kind(item.strip()) for item in text.split(",") if item.strip())
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a comma-separated list, each {WRITTEN[kind]}") from None
