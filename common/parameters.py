"""A knob as typer takes it: a parameter of the function that a command runs, and its value from the words given."""

import dataclasses
import inspect
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from common import places
from common.options import WRITTEN, Knob, choices, flag_of


def parameter(field: dataclasses.Field[Any], hint: Any, owned: list[Knob]) -> inspect.Parameter:
    """Return the parameter of a knob; `owned` are the knobs of this name in classes that keep their own default."""
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    text, panel = field.metadata["help"], field.metadata["panel"]
    several = get_origin(hint) is tuple
    if several:  # items with commas, or given again
        text += f" [default: {_shown(default)}]" if default and not owned else ""
        hint, default = list[str], None
    if owned:  # None marks "not given", so the class's own default holds; its help says which
        text, panel, default = f"{_meanings(owned)}{_defaults(owned)}", _panel(owned), None
        if known := dict.fromkeys(choice for _, other in owned for choice in choices(other)):
            hint = Literal[tuple(known)]  # Given refuses those of other classes
    if default is None and get_origin(hint) not in (Union, types.UnionType) and not required:
        hint = hint | None
    here = Path in (hint, *get_args(hint))
    shared = {
        "help": text,
        "rich_help_panel": panel,
        "show_default": default not in (None, (), "") and default is not False,
        "parser": (lambda given: places.local(str(given))) if here else None,  # who opens a path says why it cannot
    }
    metavar = (
        field.metadata["argument"] or field.metadata["metavar"] or ("LIST" if several else "PATH" if here else None)
    )
    if field.metadata["argument"]:
        said = typer.Argument(metavar=metavar, **shared)
    else:
        said = typer.Option(*_flags(field, hint), metavar=metavar, **shared)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[hint, said],
    )


def value(given: Any, field: dataclasses.Field[Any], hint: Any) -> Any:
    """Return what the command line gave of a knob as its type; a list may have been given in several pieces."""
    if get_origin(hint) is not tuple:
        return given
    kind, text = get_args(hint)[0], ",".join(given)
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    try:
        if "" in items:
            raise ValueError
        return tuple(map(kind, items))
    except ValueError:
        raise typer.BadParameter(
            f"'{text}': expected a list with commas, each {WRITTEN[kind]}", param_hint=flag_of(field)
        ) from None


def _flags(field: dataclasses.Field[Any], hint: Any) -> tuple[str, ...]:
    flag = flag_of(field)
    if hint in (bool, bool | None):
        return (f"{flag}/--no-{flag[2:]}",)
    return (flag, *field.metadata["also"])


def _shown(default: Any) -> Any:
    if isinstance(default, bool):
        return "yes" if default else "no"
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
    if first.default in (None, ""):  # its help says what decides, or nothing does
        return ""
    differ = {
        other.metadata["panel"]: _shown(other.default) for other in others if other.default not in (None, first.default)
    }
    listed = "".join(f"; {panel}: {value}" for panel, value in differ.items())
    return f" [default: {_shown(first.default)}{listed}]"
