"""A page for each command, from the code that reads its options: usage, what it does, every option and its default."""

from collections.abc import Iterator
from typing import Any

from common.commands import built
from melcache.cli import COMMANDS, app

HEADS = "commands/heads.md"


def found() -> Iterator[tuple[str, str, Any]]:
    """Yield panel, name and command of all commands, in the order of `melcache --help`."""
    tree = app()
    for command in COMMANDS:
        yield command.panel, command.name, tree.commands[command.name]


def navigation() -> list[Any]:
    """Return the commands by what a person wants to do, as mkdocs' nav."""
    panels: dict[str, list[Any]] = {}
    for panel, name, _ in found():
        panels.setdefault(panel, []).append({name: f"commands/{name}.md"})
    return [*({panel: pages} for panel, pages in panels.items()), {"Options of the heads": HEADS}]


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {f"commands/{name}.md": page(name, made) for _, name, made in found()} | {HEADS: heads()}


def page(name: str, made: Any) -> str:
    """Return the page of one command."""
    context = context_of(made, f"melcache {name}")
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    lines = [f"# melcache {name}", "", cleaned(made.help or ""), "", "```bash", usage, "```", ""]
    panels: dict[str, list[str]] = {}
    for parameter in made.get_params(context):
        if not parameter.hidden:
            panels.setdefault(panel_of(parameter), []).extend(entry(parameter, context))
    for panel, entries in panels.items():
        lines += [f"## {panel}", "", *entries]
    return "\n".join(lines) + "\n"


def context_of(made: Any, name: str) -> Any:
    """Return what a command needs to describe itself."""
    return made.make_context(name, [], resilient_parsing=True)


def panel_of(parameter: Any) -> str:
    """Return the heading that a parameter stands under."""
    default = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return parameter.rich_help_panel or default


def entry(parameter: Any, context: Any) -> list[str]:
    """Return an option as an item of a definition list: its names and value, then what it means."""
    title, text = parameter.get_help_record(context)
    return [f"`{title}`", f":   {cleaned(text)}", ""]


def heads() -> str:
    """Return the page of the heads' options, a section a head."""
    from train.heads.registry import CONFIG_CLASSES, HEADS

    train = next(command for command in COMMANDS if command.name == "train")
    of_all = {parameter.name for parameter in built(train, ["--help"]).params}
    lines = ["# Options of the heads", "", "Each head's own, for `melcache train --model HEAD` and for `sweep`.", ""]
    for kind in CONFIG_CLASSES:
        names = [name for name, entry in HEADS.items() if entry.config is kind]
        made = built(train, ["--model", names[0], "--help"])
        context = context_of(made, "")
        lines += [f"## {', '.join(names)}", ""]
        for parameter in made.params:
            lines += entry(parameter, context) if parameter.name not in of_all else []
    return "\n".join(lines) + "\n"


def cleaned(text: str) -> str:
    """Return a help text as Markdown: paragraphs joined, markup of terminals and of HTML shown as it stands."""
    plain = text.replace("<", "&lt;")
    return "\n\n".join(" ".join(part.split()) for part in plain.split("\n\n"))
