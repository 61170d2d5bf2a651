"""Commands: each a frozen dataclass of knobs and a function that runs with one; a table of them is a program."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from common import console, output
from common.errors import ConfigError
from common.help_pages import WIDTH, write_groups
from common.options import Given, knobs
from common.parameters import parameter, value

REFUSED: Any = typer.BadParameter.__base__  # click's, or that of the copy of click that typer has
TALK = {"quiet": "say nothing but the result and errors", "verbose": "say more of how the work goes"}
KEPT = "what was finished is kept, the same command continues"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command by its `name`: what `run` does with a `config`, under which `panel` help lists it, what Ctrl-C leaves.

    --quiet and --verbose bid any of them say less or more of how far it is.
    `run` has a docstring, which is the help, and one argument per class of knobs: the config, and of each class that
    `more` returns for the words behind the command what was Given of it. The first gives the defaults that are shown, a
    knob of the others that is not given stays at the default of its class.
    """

    name: str
    panel: str
    config: type
    run: Callable[..., object]
    kept: str = KEPT
    more: Callable[[Sequence[str]], Sequence[type]] = lambda words: ()
    epilog: str | None = None


@contextlib.contextmanager
def _in_a_line(ctx: Any) -> Iterator[None]:
    """Raise ConfigError for what click refuses, which it would tell in three lines: usage, a hint, and the reason."""
    try:
        yield
    except REFUSED as error:
        if type(error).show is not REFUSED.show:  # the help, where no word is given
            raise
        reason, command = error.format_message().strip(), (error.ctx or ctx).command_path
        raise ConfigError(f"{reason}{'' if reason[-1] in '.?!)' else '.'} Options: {command} --help") from None


class _Once:
    """A command that refuses an option given twice, of which click would keep the last in silence.

    One of typer's classes stands behind it.
    """

    make_parser: Callable[[Any], Any]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as click does; what it refuses is an error of ours."""
        with _in_a_line(ctx):
            return self._parsed(ctx, args)

    def _parsed(self, ctx: Any, args: list[str]) -> list[str]:
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True  # click names them below
        _, rest, given = parser.parse_args(args=list(args))
        for option in given:
            if given.count(option) > 1 and not option.multiple:
                name = "/".join([option.opts[0], *option.secondary_opts])
                ctx.fail(f"{name} is given twice: leave one out")
        beside = getattr(ctx.parent and ctx.parent.command, "commands", {})
        if given and (behind := [word for word in rest if word in beside]):  # which would not see them
            ctx.fail(f"{given[0].opts[0]} belongs behind `{behind[0]}`, whose option it becomes")
        left: list[str] = super().parse_args(ctx, args)  # type: ignore[misc] # a mixin: typer's class follows
        return left

    def invoke(self, ctx: Any) -> Any:
        """Run as click does; what it refuses of a command's words is an error of ours."""
        with _in_a_line(ctx):
            return super().invoke(ctx)  # type: ignore[misc] # a mixin, as above

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, and the commands, in groups."""
        write_groups(self, ctx, formatter)

    def main(self, *given: Any, **more: Any) -> Any:
        """Run to the end; an error of ours is one line and its exit code."""
        with console.lines():
            return super().main(*given, **more)  # type: ignore[misc] # as above


class _Single(_Once, TyperCommand):
    """A command whose options are given once, or are lists."""


class Program(_Once, TyperGroup):
    """Commands by name. Where `default` names one of them, it is the one that runs where no other is named."""

    table: ClassVar[Mapping[str, Command]] = {}
    default: ClassVar[str] = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as click does."""
        begins = self.default and (not args or args[0].startswith("-"))
        return super().parse_args(ctx, [self.default, *args] if begins else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the words name, with the knobs that the words behind it ask for."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, built(self.table[name], rest) if found and name and self.table[name].more(rest) else found, rest


def program(commands: Sequence[Command], help_text: str = "", *, default: str = "") -> typer.Typer:
    """Return a table of commands as a program.  One with a `default` command has no options of its own."""
    table = {command.name: command for command in commands}
    cls = type("Program", (Program,), {"table": table, "default": default})
    app = _typer(cls=cls, help=help_text, no_args_is_help=not default, add_completion=not default)
    for command in commands:
        _register(app, command, ())
    app.callback()((lambda: None) if default else _root)
    return app


def built(command: Command, words: Sequence[str]) -> Any:
    """Return one command as click has it, with the knobs that the words behind it ask for."""
    app = _typer(add_completion=False)
    _register(app, command, command.more(words))
    return typer.main.get_command(app)


def _typer(**given: Any) -> typer.Typer:
    settings = {"max_content_width": WIDTH}
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=settings, **given)


def _register(app: typer.Typer, command: Command, more: Sequence[type]) -> None:
    app.command(command.name, cls=_Single, rich_help_panel=command.panel, epilog=command.epilog)(_entry(command, more))


def _flag(name: str, said: str) -> inspect.Parameter:
    option = typer.Option(f"--{name}", f"-{name[0]}", help=said)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.show(f"melcache {version('melcache')}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Show the version and exit.", callback=_tell_version, is_eager=True)


def _root(wanted: Annotated[bool, VERSION] = False) -> None:
    """Take the options of the program itself."""


def _entry(command: Command, more: Sequence[type]) -> Callable[..., None]:
    """Return the function that typer makes a command of: its signature has a parameter for each knob."""
    owners = [knobs(config) for config in (command.config, *more)]

    def entry(**given: Any) -> None:
        talk = {name: bool(given.pop(name, False)) for name in TALK}
        if all(talk.values()):
            raise typer.BadParameter("--quiet and --verbose exclude each other: leave one out")
        output.speak(**talk)
        values = [
            {key: value(given[key], field, hint) for key, (field, hint) in owned.items() if given.get(key) is not None}
            for owned in owners
        ]
        try:
            command.run(command.config(**values[0]), *map(Given, more, values[1:]))
        except KeyboardInterrupt:
            console.tell(f"interrupted: {command.kept}")
            raise typer.Exit(130) from None

    parameters: dict[str, inspect.Parameter] = {}
    for position, owned in enumerate(owners):
        for key, (field, hint) in owned.items():
            others = [other[key] for other in owners if key in other] if position > 0 else []
            parameters.setdefault(key, parameter(field, hint, others))
    parameters |= {name: _flag(name, said) for name, said in TALK.items()}
    entry.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined] # typer reads it
    entry.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    entry.__doc__ = command.run.__doc__
    return entry
