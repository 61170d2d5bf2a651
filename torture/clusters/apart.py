"""Machines that share no folder: processes with a folder each and one remote, of which one is killed."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cache.reader import Reader
from cache.remotes.meeting_names import MEETING
from cache.sharing import board
from common.errors import CacheError
from common.paths import exists, names
from torture.clusters.tiny_machine import Machine
from torture.clusters.tiny_worker import RANGES
from torture.clusters.trial import RANGE_SECONDS
from torture.clusters.watched import SECONDS
from torture.processes import doomed, until

MACHINES = "abc"
HASTE = 20  # times as fast as in earnest


def in_a_remote(scratch: Path, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Kill one of three machines behind its second range."""
    place = scratch / "killed"
    place.mkdir(parents=True)
    with contextlib.ExitStack() as lives:  # of those that outlast their time
        others = [lives.enter_context(doomed(partial(_work, place, letter, seed))) for letter in MACHINES[1:]]
        with doomed(partial(_work, place, MACHINES[0], seed)):
            until(lambda: len(_ranges(place, MACHINES[0])) > 1, "the first machine begins its second range", SECONDS)
        until(lambda: all(map(_ended, others)), "the other machines end", SECONDS)
    yield "a machine killed", _problems(place, seed)


def _work(place: Path, letter: str, seed: int) -> None:
    board.BEAT, board.QUIET, board.POLL = (each / HASTE for each in (board.BEAT, board.QUIET, board.POLL))
    Machine(place / letter / "tiny", str(place / "remote"), _log(place, letter), seed, seconds=RANGE_SECONDS).work()


def _problems(place: Path, seed: int) -> list[str]:
    """Return what is wrong: with the caches of those that lived, with how much was computed, with what is left."""
    expected = Machine(place / "alone" / "tiny", str(place / "alone" / "remote"), place / "log", seed).work()
    folders = [place / "remote", *(place / letter / "tiny" for letter in MACHINES[1:])]
    found = [f"another id in {folder}: {_id(folder)}" for folder in folders if _id(folder) != expected]
    if not RANGES <= (computed := sum(len(_ranges(place, letter)) for letter in MACHINES)) <= RANGES + len(MACHINES):
        found.append(f"{computed} ranges computed; {RANGES} there are, for {len(MACHINES)} machines")
    left = [name for folder in folders for name in names(folder) if name.startswith(".") or name == MEETING]
    return [*found, *([f"left behind: {left}"] if left else [])]


def _id(folder: Path) -> str:
    """Return the id of a cache, or why there is none."""
    try:
        return Reader(folder).id
    except CacheError as error:
        return str(error)


def _ended(pid: int) -> bool:
    """Whether a child has ended; whoever waits for it may still do so."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ranges(place: Path, letter: str) -> list[str]:
    log = _log(place, letter)
    return [line for line in log.read_text().splitlines() if line.startswith("range")] if exists(log) else []


def _log(place: Path, letter: str) -> Path:
    return place / f"log-{letter}"
