"""Several extractors at once on one cache, also where locks do nothing, and in containers, while a reader looks.

Every third time they go on from one that was killed, of whose shards one is damaged.
"""

import fcntl
import functools
import os
import shutil
import time
from pathlib import Path

from torture.children import child, in_a_namespace
from torture.unlisted import interrupted
from torture.world import SHARDS, Result, build, contents, partial, put, unlike, wrong

PROCESSES = 8
LOOK_SECONDS = 0.005


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
        if turn % 3 == 2:
            _leave_damage(folder, world)
        broken = turn % 2 == 1
        work = functools.partial(_extract, folder, world, broken)
        contained = functools.partial(in_a_namespace, work)
        pids = {child(contained if number % 2 and not broken else work) for number in range(PROCESSES)}
        while pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in pids:
                pids.discard(pid)
                if status:
                    result.fail(f"round {turn}: an extractor ended with status {status}")
            if problem := wrong(folder, known):
                result.fail(f"round {turn}: while they work it {problem}")
            result.count("looks")
            time.sleep(LOOK_SECONDS)
        if problem := unlike(folder, known):
            result.fail(f"round {turn}: {problem}")
        if partial(folder):
            result.fail(f"round {turn}: temporary files left: {partial(folder)}")
        result.case()
    return result


def _leave_damage(folder: Path, world: int) -> None:
    """Leave what an extraction leaves that was killed, and change a bit in the last shard's numbers."""
    for name, data in interrupted(folder, world, SHARDS - 2).items():
        if name.startswith("entity.resnet-00000") and name.endswith(".h5"):
            put(folder / name, data[:-1] + bytes([data[-1] ^ 1]))


def _extract(folder: Path, world: int, broken: bool) -> None:
    if broken:
        fcntl.flock = lambda descriptor, operation: None
    build(folder, world)
