"""Machines that share no folder: processes with a folder each and one remote, of which one is killed."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cache.reader import Reader
from cache.remotes.meeting_names import MEETING
from cache.sharing import board
from common.paths import exists, names
from torture.clusters.tiny_machine import Machine
from torture.clusters.tiny_worker import RANGES
from torture.clusters.trial import RANGE_SECONDS
from torture.clusters.watched import SECONDS
from torture.processes import child

MACHINES = "abc"
HASTE = 20  # times as fast as in earnest


def in_a_remote(scratch: Path, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Kill one of three machines behind its second range."""
    place = scratch / "killed"
    place.mkdir(parents=True)
    pids = {letter: child(partial(_work, place, letter, seed)) for letter in MACHINES}
    victim, *others = pids.values()
    ends = time.monotonic() + SECONDS
    while len(_ranges(place, MACHINES[0])) < 2:
        if time.monotonic() > ends:
            raise TimeoutError("the first machine has not begun its second range")
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    ended = [os.waitpid(pid, 0)[1] for pid in others]
    yield "a machine killed", [f"they end with {ended}"] if any(ended) else _problems(place, seed)


def _work(place: Path, letter: str, seed: int) -> None:
    board.BEAT, board.QUIET, board.POLL = (each / HASTE for each in (board.BEAT, board.QUIET, board.POLL))
    Machine(place / letter / "tiny", str(place / "remote"), _log(place, letter), seed, seconds=RANGE_SECONDS).work()


def _problems(place: Path, seed: int) -> list[str]:
    """Return what is wrong: with the caches of those that lived, with how much was computed, with what is left."""
    expected = Machine(place / "alone" / "tiny", str(place / "alone" / "remote"), place / "log", seed).work()
    folders = [place / "remote", *(place / letter / "tiny" for letter in MACHINES[1:])]
    found = [f"another id in {folder}" for folder in folders if Reader(folder).id != expected]
    if not RANGES <= (computed := sum(len(_ranges(place, letter)) for letter in MACHINES)) <= RANGES + len(MACHINES):
        found.append(f"{computed} ranges computed; {RANGES} there are, for {len(MACHINES)} machines")
    left = [name for folder in folders for name in names(folder) if name.startswith(".") or name == MEETING]
    return [*found, *([f"left behind: {left}"] if left else [])]


def _ranges(place: Path, letter: str) -> list[str]:
    log = _log(place, letter)
    return [line for line in log.read_text().splitlines() if line.startswith("range")] if exists(log) else []


def _log(place: Path, letter: str) -> Path:
    return place / f"log-{letter}"
