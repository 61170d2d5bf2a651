"""Several extractors at once on one cache, also where locks do nothing, and in containers, while a reader looks.

Every third time they go on from one that was killed, of whose shards one is damaged.


In each round they meet: the first one stops with its temporary file open until every other one has begun behind it and
has opened its own, has failed to, or has ended.
"""

import array
import fcntl
import functools
import os
import shutil
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache.store import temporary_names
from torture.machines.unlisted_rot import interrupted
from torture.processes import child, in_a_namespace
from torture.tiny_cache import SHARDS, Result, build, contents, partial, put, unlike, wrong

PROCESSES = 8
LOOK_SECONDS = 0.005
MEET_SECONDS = 0.001
MOST_SECONDS = 300.0  # of a round


class Meeting:
    """A pipe that holds a byte for each process that has arrived."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        self._write = os.write

    def arrive(self) -> None:
        """Note an arrival."""
        self._write(self._writes, b".")

    def wait(self, count: int) -> None:
        """Wait for so many arrivals."""
        found = array.array("i", [0])
        while found[0] < count:
            fcntl.ioctl(self._reads, termios.FIONREAD, found)
            time.sleep(MEET_SECONDS)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reads)
        os.close(self._writes)


def run(scratch: Path, rounds: int, seed: int) -> Result:
    """Let eight processes make one cache, `rounds` times, every other time with flock made a no-op.

    Where there are locks, half of the processes are as in containers: none sees those of the others.
    """
    result = Result("extractors at once")
    for turn in range(rounds):
        world, folder, whole = seed + turn, scratch / "shared", scratch / "whole"
        for path in (folder, whole):
            shutil.rmtree(path, ignore_errors=True)
        identity = build(whole, world)
        known = {identity: contents(whole)}
        if turn % 3 == 1:
            _leave_damage(folder, world)
        meeting, broken = Meeting(), turn % 2 == 1
        work = functools.partial(_extract, folder, world, broken, meeting)
        pids = {child(functools.partial(_begin, work, place, broken)) for place in range(PROCESSES)}
        ends = time.monotonic() + MOST_SECONDS
        while pids:
            if time.monotonic() > ends:
                raise TimeoutError(f"round {turn}: after {MOST_SECONDS:.0f} s extractors {pids} have not ended")
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in pids:
                pids.discard(pid)
                if os.WIFSIGNALED(status):
                    meeting.arrive()
                if status:
                    result.fail(f"round {turn}: an extractor ended with status {status}")
            if problem := wrong(folder, known):
                result.fail(f"round {turn}: while they work it {problem}")
            result.count("looks")
            time.sleep(LOOK_SECONDS)
        meeting.close()
        if problem := unlike(folder, known):
            result.fail(f"round {turn}: {problem}")
        if partial(folder):
            result.fail(f"round {turn}: temporary files left: {partial(folder)}")
        result.case()
    return result


def _leave_damage(folder: Path, world: int) -> None:
    """Leave what an extraction leaves that was killed, and change a bit in the last shard's numbers."""
    for name, data in interrupted(folder, world, SHARDS - 2).items():
        if name.startswith("entity.image-00000") and name.endswith(".h5"):
            put(folder / name, data[:-1] + bytes([data[-1] ^ 1]))


def _begin(work: Callable[[int], None], place: int, broken: bool) -> None:
    if place % 2 and not broken:
        in_a_namespace(lambda: work(place))
    else:
        work(place)


def _extract(folder: Path, world: int, broken: bool, meeting: Meeting, place: int) -> None:
    if broken:
        fcntl.flock = lambda descriptor, operation: None
    real, arrived = os.open, []

    def opened(path: Any, *rest: Any, **more: Any) -> int:
        first = not arrived and os.path.basename(os.fspath(path)).startswith(temporary_names.PREFIX)
        arrived.extend([path] * first)
        try:
            return real(path, *rest, **more)
        finally:
            if first:
                meeting.arrive()
                meeting.wait(PROCESSES if place == 0 else 0)

    os.open = opened
    meeting.wait(min(place, 1))
    try:
        build(folder, world)
    finally:
        if not arrived:
            meeting.arrive()
