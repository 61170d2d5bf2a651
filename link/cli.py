"""The command of `melcache` that uses a run."""

from common.commands import Command
from link.config import LinkConfig


def link(config: LinkConfig) -> None:
    """Link new mentions with a finished run: encoded as its cache was, retrieved by name, ranked by its head."""
    from link import command  # torch: not for --help

    command.link(config)


COMMANDS = (Command("link", "Use a run", LinkConfig, link, kept="nothing was written"),)
