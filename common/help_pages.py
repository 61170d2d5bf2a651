"""`--help` as plain text: options and commands in groups, a line or two each, no wider than is read with ease."""

from typing import Any

WIDTH = 120  # of a terminal that is wider


def write_groups(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a click command, then the commands below it, each group under its title."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(ctx):
        if record := option.get_help_record(ctx):
            groups.setdefault(_title(option), []).append((_written(option, record[0]), record[1]))
    _write(groups, formatter)
    below: dict[str, list[tuple[str, str]]] = {}
    for name, one in getattr(command, "commands", {}).items():
        below.setdefault(one.rich_help_panel, []).append((name, one.help.split("\n\n")[0].replace("\n", " ")))
    _write(below, formatter)


def _title(option: Any) -> str:
    return str(option.rich_help_panel or ("Options" if option.opts[0].startswith("-") else "Arguments"))


def _written(option: Any, told: str) -> str:
    """Return how an option or argument is typed; of a switch that is off only how it is turned on."""
    if not option.opts[0].startswith("-"):
        return str(option.metavar)
    return option.opts[0] if option.secondary_opts and option.default is False else told


def _write(groups: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl(rows)
