"""The command of `melcache` that makes reports."""

from common import console
from common.commands import Command
from report.config import ReportConfig


def report(config: ReportConfig) -> None:
    """Make a folder of pages that opens from disk: a summary of finished runs, and every test mention to look at.

    Give --run again for runs of the same cache, to see where one is right and the other wrong. No request leaves the
    machine.
    """
    from report import build  # torch: not for --help

    console.show(build.show(build.report(config)))


COMMANDS = (Command("report", "Look at a run", ReportConfig, report),)
