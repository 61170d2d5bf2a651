"""Kills: an extraction is killed at random moments and started again until it is done."""

import os
import random
import signal
import time
from pathlib import Path

from cache import manifest
from cache.reader import Reader
from common.errors import CacheError
from torture.children import child
from torture.world import SHARDS, Result, build, contents, partial, wrong

KILLED = ("SIGKILL",)
HARSH = ("SIGKILL", "SIGTERM", "SIGSTOP")  # a stopped process is killed a moment later
WORK_SECONDS = 0.004  # that a shard takes beside its writing


def run(scratch: Path, count: int, seed: int, signals: tuple[str, ...] = KILLED) -> Result:
    """Kill `count` extractions; each world must end with its id, without leftovers, one shard redone per kill."""
    result, rng = Result("kills"), random.Random(seed)
    duration, world = 0.3, 0
    while result.tried < count and not result.failures:
        world += 1
        folder, whole = scratch / f"killed-{world}", scratch / f"whole-{world}"
        start = time.monotonic()
        identity = build(whole, world, lambda path: time.sleep(WORK_SECONDS))
        duration = time.monotonic() - start
        reads, writes = os.pipe()
        kills = _until_done(folder, world, writes, duration, rng, signals, count - result.tried)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            begun = len(pipe.read())
        result.case(kills)
        result.count("worlds")
        redone = begun - SHARDS
        result.count("shards redone", redone)
        if redone > kills:
            result.fail(f"world {world}: {redone} shards redone after {kills} kills")
        if problem := _compare(folder, whole, identity):
            result.fail(f"world {world}, {kills} kills: {problem}")
    return result


def _until_done(
    folder: Path, world: int, pipe: int, duration: float, rng: random.Random, signals: tuple[str, ...], most: int
) -> int:
    """Start the extraction of a world again and again; return how many kills it took.

    Every shard that is begun is a byte in the pipe.
    """
    kills = 0
    while True:
        pid = child(lambda: build(folder, world, lambda path: time.sleep(WORK_SECONDS), lambda: os.write(pipe, b".")))
        if kills < most:
            time.sleep(rng.uniform(0, duration))
            name = rng.choice(signals)
            os.kill(pid, getattr(signal, name))
            if name == "SIGSTOP":
                time.sleep(0.01)
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        elif status == 0:
            return kills
        else:
            raise AssertionError(f"the extraction ended with status {status}")


def _compare(folder: Path, whole: Path, identity: str) -> str:
    try:
        if Reader(folder).id != identity:
            return "another id"
    except CacheError as error:
        return str(error)
    if problem := wrong(folder, {identity: contents(whole)}):
        return problem
    if partial(folder):
        return f"temporary files left: {partial(folder)}"
    names = [sorted(path.name for path in there.iterdir()) for there in (folder, whole)]
    return "" if names[0] == names[1] and manifest.NAME in names[0] else "other files"
