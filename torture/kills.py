"""Kills: an extraction is killed at random moments and started again until it is done."""

import os
import random
import signal
import time
from pathlib import Path

from cache import manifest
from torture.children import child
from torture.world import SHARDS, Result, build, contents, partial, unlike

KILLED = ("SIGKILL",)
HARSH = ("SIGKILL", "SIGTERM", "SIGSTOP")  # a stopped process is killed a moment later
WORKERS = 3
WORK_SECONDS = 0.004  # that a shard takes beside its writing


def run(scratch: Path, count: int, seed: int, *, harsh: bool = False) -> Result:
    """Kill `count` extractions; each world must end with its id, without leftovers, one shard redone per kill.

    If `harsh`, by other signals too, and in every third world one of several extractions at once.
    """
    result, rng = Result("kills"), random.Random(seed)
    world = 0
    while result.tried < count and not result.failures:
        world += 1
        folder, whole = scratch / f"killed-{world}", scratch / f"whole-{world}"
        start = time.monotonic()
        identity = build(whole, world, lambda path: time.sleep(WORK_SECONDS))
        duration = time.monotonic() - start
        if harsh and world % 3 == 0:
            kills, redone = _one_of_several(folder, world, duration, rng)
            result.count("killed workers", kills)
        else:
            kills, redone = _until_done(folder, world, duration, rng, HARSH if harsh else KILLED, count - result.tried)
        result.case(kills)
        result.count("worlds")
        result.count("shards redone", redone)
        if redone > kills:
            result.fail(f"world {world}: {redone} shards redone after {kills} kills")
        if problem := _compare(folder, whole, identity):
            result.fail(f"world {world}, {kills} kills: {problem}")
    return result


def _until_done(
    folder: Path, world: int, duration: float, rng: random.Random, signals: tuple[str, ...], most: int
) -> tuple[int, int]:
    """Start the extraction of a world again and again; return how many kills it took, and shards begun twice.

    Every shard that is begun is a byte in a pipe.
    """
    reads, writes = os.pipe()
    kills, done = 0, False
    while not done:
        pid = child(lambda: _work(folder, world, writes))
        if kills < most:
            time.sleep(rng.uniform(0, duration))
            _kill(pid, rng.choice(signals))
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
    pids = [child(lambda: _work(folder, world, None)) for _ in range(WORKERS)]
    time.sleep(rng.uniform(0, duration))
    _kill(pids[0], "SIGKILL")
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses[1:] == [0] * (WORKERS - 1), f"the other extractions ended with statuses {statuses[1:]}"
    build(folder, world)
    return int(os.WIFSIGNALED(statuses[0])), 0


def _work(folder: Path, world: int, pipe: int | None) -> None:
    def begun() -> None:
        if pipe is not None:
            os.write(pipe, b".")

    build(folder, world, lambda path: time.sleep(WORK_SECONDS), begun)


def _kill(pid: int, name: str) -> None:
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
    return "" if names[0] == names[1] and manifest.NAME in names[0] else "other files"
