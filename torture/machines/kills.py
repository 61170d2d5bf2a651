"""Kills: an extraction is killed in a call that writes, or at a random moment, and started again until it is done."""

import functools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache import manifests
from torture.processes import child
from torture.tiny_cache import SHARDS, Result, build, contents, partial, unlike

CALLS = tuple("mkdir open write fsync link replace unlink".split())
SIGNALS = ("SIGKILL", "SIGTERM", "SIGSTOP")  # a stopped process is killed a moment later
WORKERS = 3
WORK_SECONDS = 0.004  # that a shard takes beside its writing, where moments are drawn
Killing = Callable[[int], None]  # what kills a process, given its pid


class Calls:
    """The calls of this process that write, counted from now on; the one at `fatal`, from 0, is its last."""

    def __init__(self, fatal: int | None = None, names: tuple[str, ...] = CALLS) -> None:
        self.count, self._fatal = 0, fatal
        for name in names:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            self.count += 1
            if self.count - 1 == self._fatal:
                if name == "write":  # half of it is done
                    real(given[0], given[1][: len(given[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **more)

        return call


def run(scratch: Path, count: int, seed: int, *, harsh: bool = False) -> Result:
    """Kill `count` extractions; each world must end with its id, without leftovers, one shard redone per kill.

    They die in calls that write.  If `harsh`, in two worlds of three at random moments: by several signals, and as one
    of several extractions at once.
    """
    result, rng = Result("kills"), random.Random(seed)
    world, calls = 0, _calls(scratch / "counted")
    while result.tried < count and not result.failures:
        world += 1
        folder, whole = scratch / f"killed-{world}", scratch / f"whole-{world}"
        start = time.monotonic()
        identity = build(whole, world, lambda path: time.sleep(WORK_SECONDS if harsh else 0))
        duration, left = time.monotonic() - start, count - result.tried
        if harsh and world % 3 == 0:
            kills, redone = _one_of_several(folder, world, duration, rng)
            result.count("killed workers", kills)
        elif harsh and world % 3 == 1:
            kills, redone = _until_done(folder, world, left, functools.partial(_at_a_moment, duration, rng))
        else:
            kills, redone = _until_done(folder, world, left, None, lambda: rng.randrange(calls // 3))
        result.case(kills)
        result.count("worlds")
        result.count("shards redone", redone)
        if redone > kills:
            result.fail(f"world {world}: {redone} shards redone after {kills} kills")
        if problem := _compare(folder, whole, identity):
            result.fail(f"world {world}, {kills} kills: {problem}")
    return result


def _until_done(
    folder: Path, world: int, most: int, kill: Killing | None, fatal: Callable[[], int | None] = lambda: None
) -> tuple[int, int]:
    """Start the extraction of a world again and again; return how many kills it took, and shards begun twice.

    Every shard that is begun is a byte in a pipe.
    """
    reads, writes = os.pipe()
    kills, done = 0, False
    while not done:
        last = fatal() if kills < most else None
        pid = child(lambda last=last: _work(folder, world, writes, slow=kill is not None, fatal=last))
        if kill is not None and kills < most:
            kill(pid)
        _, status = os.waitpid(pid, 0)
        kills += os.WIFSIGNALED(status)
        done = status == 0
        assert done or os.WIFSIGNALED(status), f"the extraction ended with status {status}"
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        return kills, len(pipe.read()) - SHARDS


def _one_of_several(folder: Path, world: int, duration: float, rng: random.Random) -> tuple[int, int]:
    """Kill one of several extractions of a world; return whether it still ran, and 0.

    The others must end well. What the dead one left, the next run sweeps.
    """
    pids = [child(lambda: _work(folder, world, None, slow=True)) for _ in range(WORKERS)]
    time.sleep(rng.uniform(0, duration))
    os.kill(pids[0], signal.SIGKILL)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses[1:] == [0] * (WORKERS - 1), f"the other extractions ended with statuses {statuses[1:]}"
    build(folder, world)
    return int(os.WIFSIGNALED(statuses[0])), 0


def _work(folder: Path, world: int, pipe: int | None, *, slow: bool = False, fatal: int | None = None) -> None:
    write = os.write

    def begun() -> None:
        if pipe is not None:
            write(pipe, b".")

    if fatal is not None:
        Calls(fatal)
    build(folder, world, lambda path: time.sleep(WORK_SECONDS if slow else 0), begun)


def _calls(folder: Path) -> int:
    """Return how many calls a whole extraction takes, whatever the world."""
    reads, writes = os.pipe()

    def work() -> None:
        write, calls = os.write, Calls()
        build(folder, 0)
        write(writes, str(calls.count).encode())

    pid = child(work)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        count = int(pipe.read())
    os.waitpid(pid, 0)
    return count


def _at_a_moment(duration: float, rng: random.Random, pid: int) -> None:
    time.sleep(rng.uniform(0, duration))
    name = rng.choice(SIGNALS)
    os.kill(pid, getattr(signal, name))
    if name == "SIGSTOP":
        time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)


def _compare(folder: Path, whole: Path, identity: str) -> str:
    if problem := unlike(folder, {identity: contents(whole)}):
        return problem
    if partial(folder):
        return f"temporary files left: {partial(folder)}"
    names = [{path.name for path in there.iterdir()} for there in (folder, whole)]
    return "" if names[0] == names[1] and manifests.NAME in names[0] else "other files"
