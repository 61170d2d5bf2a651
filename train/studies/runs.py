"""A series: several runs in folders of their own under one, trained in turn (`compare`, `ablate`).

Each is an ordinary run, so finished seeds are not trained again and a kill continues. One that diverges, or that the
cache cannot feed, is listed with the reason and stops no other.
"""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import Reader, store
from common.errors import CacheError, ConfigError, NotFiniteError
from common.output import Progress, say
from train import loop, results
from train.config import TrainConfig, resolved
from train.config.studies import SeriesConfig
from train.dividing.division import ALONE, Division
from train.dividing.tasks import checkpoints_of
from train.evaluating import protocols
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.run_folder import run_files

WRITTEN = ("json", "md", "png", "svg")  # of a series' result


@dataclass(frozen=True)
class Variant:
    """One run of a series: its name in tables, its config, and its head's, None for a head without weights."""

    name: str
    config: TrainConfig
    head: HeadConfig | None


@dataclass(frozen=True)
class Outcome:
    """What became of a run: the content of its results.json, or else its `state` in a word or two, and the reason."""

    run: Variant
    found: dict[str, Any] | None
    state: str = ""
    reason: str = ""


def part(config: TrainConfig, folder: Path, changes: Mapping[str, Any]) -> TrainConfig:
    """Return the config of one run of several: with `changes`, in its own folder, resolved."""
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    return resolved(TrainConfig(**own | changes | {"run": folder}))


def in_one_process(command: str) -> None:
    """Raise ConfigError under torchrun."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(f"{command} runs in one process: start it without torchrun")


def train(
    config: SeriesConfig, runs: Sequence[Variant], reader: Reader, command: str, division: Division = ALONE
) -> list[Outcome]:
    """Train what is left of the runs and return what became of each, in their order.

    `<command>.*` in the folder is the result of all; --fresh removes it, and what the runs' folders hold. Where the
    series was divided, other processes at work in the folder are waited for.
    Raises ConfigError, before anything is trained, for a folder that holds a run with other options.
    """
    with store.alone(config.folder, wait=division.divided):
        lacking = {run.name: outcome for run in runs if (outcome := _lacking(run, reader))}
        possible = [run for run in runs if run.name not in lacking]
        if config.fresh:
            forget(config.folder, command)
        left = {run.name: _left(run, reader, fresh=config.fresh) for run in possible if run.head is not None}
        lately = {run.name: division.lately(run.config.folder) for run in possible}
        _announce(config, command, left, lacking, [name for name, seeds in lately.items() if seeds])
        with Progress(sum(left.values()), command, "epochs") as progress:
            ended: dict[str, Outcome] = {}
            for run in possible:
                place = f", {[*left].index(run.name) + 1} of {len(left)}" if run.name in left else ""
                say(f"{command}{place}: {run.name}")
                with results.by_workers(lately[run.name]):
                    outcome = _attempt(run, left.get(run.name, 0), progress)
                if outcome.found is None:
                    known = any(other.reason == outcome.reason for other in ended.values())
                    say(f"{outcome.state}: {run.name}: {'for the same reason' if known else outcome.reason}")
                ended[run.name] = outcome
    return [(lacking | ended)[run.name] for run in runs]


def forget(folder: Path, command: str) -> None:
    """Remove the result of a series."""
    for kind in WRITTEN:
        run_files.remove(folder / f"{command}.{kind}")


def feedable(run: Variant, reader: Reader) -> bool:
    """Whether the cache has the columns of a run."""
    return _lacking(run, reader) is None


def _lacking(run: Variant, reader: Reader) -> Outcome | None:
    """Return the outcome of a run whose columns the cache lacks; the reason names the commands that get them."""
    try:
        HEADS[run.config.model].require(reader, run.head)
        protocols.columns(protocols.ranking_of(run.config), reader)
    except CacheError as error:
        return Outcome(run, None, "not run", str(error))
    return None


def _left(run: Variant, reader: Reader, *, fresh: bool) -> int:
    """Return how many epochs are to be trained, of all seeds.  Raises ConfigError if the folder holds another run."""
    checkpoints = checkpoints_of(run.config, run.head, reader)
    with store.alone(run.config.folder):
        checkpoints.tidy(fresh=fresh)
        checkpoints.check()
    return run.config.epochs * len(set(run.config.seeds) - checkpoints.finished().keys())


def _announce(
    config: SeriesConfig, command: str, left: dict[str, int], lacking: dict[str, Outcome], lately: Collection[str]
) -> None:
    """Say what will be trained, what cannot be, and what workers have trained `lately`."""
    for outcome in lacking.values():
        say(f"{outcome.state}: {outcome.run.name}: {outcome.reason}")
    finished = [name for name, epochs in left.items() if not epochs]
    told = f"{len(left) - len(finished)} of {len(left)} runs to train, {sum(left.values()):,} epochs"
    lists = {"finished before": set(finished).difference(lately), "trained by workers": set(finished) & set(lately)}
    known = [f"; {how}: {', '.join(name for name in left if name in those)}" for how, those in lists.items() if those]
    say(f"{command}: {told} of seeds {', '.join(map(str, config.seeds))} in all{''.join(known)}")


def _attempt(run: Variant, epochs: int, progress: Progress) -> Outcome:
    """Train a run to its end or its divergence; `epochs` of the progress are its own."""
    counted = 0

    def passed(seeds: int) -> None:
        nonlocal counted
        counted += seeds
        progress.advance(seeds)

    try:
        return Outcome(run, loop.fit(run.config, run.head, passed))
    except NotFiniteError as error:
        state, reason = "diverged", str(error)
    except ConfigError as error:
        state, reason = "not run", str(error)
    finally:
        if epochs > counted:  # begun before a kill, stopped early, diverged
            progress.advance(epochs - counted)
    return Outcome(run, None, state, reason)
