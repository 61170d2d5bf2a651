"""`melcache`: the commands of all stages as one program."""

from typing import Any

import typer

import cache.cli
import extract.cli
import link.cli
import report.cli
import serve.cli
import train.cli
from common import console
from common.commands import program

PANELS = ("Make a cache", "Look at a cache", "Share a cache", "Train heads", "Look at a run", "Use a run")
COMMANDS = tuple(
    sorted(
        (
            *extract.cli.COMMANDS,
            *cache.cli.COMMANDS,
            *map(report.cli.followed, train.cli.COMMANDS),
            *report.cli.COMMANDS,
            *link.cli.COMMANDS,
            *serve.cli.COMMANDS,
        ),
        key=lambda command: PANELS.index(command.panel),
    )
)
PROGRAM = program(COMMANDS, "Multimodal entity linking: encode a dataset once into a cache, train every head on it.")


def app() -> Any:
    """Return the whole tree of commands, a click group; no torch is imported for it."""
    return typer.main.get_command(PROGRAM)


def main() -> None:
    """Run the command line; a MelcacheError is one line and its exit code."""
    console.run(PROGRAM, "melcache")
