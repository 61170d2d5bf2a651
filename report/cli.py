"""The command of `melcache` that makes reports, and the option of others that makes one when they are done."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import console
from common.commands import Command
from common.errors import ConfigError
from common.options import Given, knob
from report.config import MOST_RUNS, ReportConfig
from report.writing import folder
from train import own_head
from train.config import TrainConfig
from train.config.studies import CompareConfig


def report(config: ReportConfig) -> None:
    """Make a folder of pages that opens from disk: a summary of finished runs, and every test mention to look at.

    Give --run again for runs of the same cache, to see where one is right and the other wrong. No request leaves the
    machine.
    """
    from report import build  # torch: not for --help

    console.show(build.show(build.report(config)))


@dataclasses.dataclass(frozen=True)
class AfterConfig:
    """What a command that trains does when it is done."""

    report: bool = knob(False, "then make a report, in report/ of the folder")


def followed(command: Command) -> Command:
    """Return a command with the option --report, where it is one that leaves runs, and `predict` with sentences."""
    if command.name == "predict":
        return dataclasses.replace(command, run=functools.wraps(command.run)(lambda c: command.run(c, _sentences)))
    if command.name not in LEAVES:
        return command
    runs = LEAVES[command.name]

    def run(config: TrainConfig, *given: Given) -> None:
        *others, after = given
        wanted, out = after.config().report, _folder(config) / "report"
        if wanted:  # not when hours of training are over
            folder.check(out)
            if isinstance(config, CompareConfig) and config.datasets:
                raise ConfigError("--report shows runs of one cache side by side: leave it out with --datasets")
        if command.run(config, *others) is False:  # others end it
            return
        if wanted and os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks
            report(ReportConfig(run=runs(config), out=out, device=config.device))

    run.__doc__ = command.run.__doc__
    return dataclasses.replace(command, run=run, more=lambda words: (*command.more(words), AfterConfig))


def _sentences(release: Path, reader: Any) -> dict[str, str]:
    """Return the sentences of a release by mention id, of those that a cache has.  Raises DatasetError."""
    from report.findings.release import of_cache

    found = of_cache(ReportConfig(run=[Path()], release=release), reader)
    return {id: mention.sentence for id, mention in found.mentions.items()}


def _folder(config: TrainConfig) -> Path:
    """Return the folder that a command leaves; that of a head by file has the head's name."""
    return config.folder if isinstance(config, CompareConfig) else own_head.resolve(config).folder


def _trained(config: TrainConfig) -> list[Path]:
    return [_folder(config)]


def _compared(config: TrainConfig) -> list[Path]:
    """Return the folders of the best runs of a comparison, as many as a report shows."""
    found: dict[str, Any] = json.loads((config.folder / "compare.json").read_text())
    best = sorted(found["entries"], key=lambda entry: -entry["mean"]["test"]["top1"])
    return [Path(entry["run"]) for entry in best[:MOST_RUNS]]


LEAVES: dict[str, Callable[[Any], list[Path]]] = {"train": _trained, "compare": _compared}
COMMANDS = (Command("report", "Look at a run", ReportConfig, report),)
