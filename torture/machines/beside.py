"""Caches beside: killed while one takes shards from another, whose files it shares, and which may rot meanwhile."""

import os
import random
from pathlib import Path

from cache import manifests
from cache.writing.draft import Draft
from torture.machines.kills import Calls
from torture.processes import child
from torture.tiny_cache import ABOUT, PARTS, SHARDS, Result, build, contents, partial, shards, unlike

MOST_CALLS = 9  # that a shard takes


def run(scratch: Path, count: int, seed: int) -> Result:
    """Kill `count` extractions that take some parts from a finished cache beside; in every other world a file rots.

    Each must end with the cache made alone, and nothing of the cache beside may have changed.
    """
    result, rng = Result("caches beside"), random.Random(seed)
    world = 0
    while result.tried < count and not result.failures:
        world += 1
        lender, folder, whole = (scratch / f"{name}-{world}" for name in ("lender", "taken", "whole"))
        identity = build(whole, world)
        build(lender, world)
        lent = set(rng.sample(sorted(PARTS), rng.randrange(1, len(PARTS))))
        kills = rots = 0
        while _killed(lender, folder, world, lent, rng.randrange(SHARDS * MOST_CALLS)) and kills < count:
            kills += 1
            if world % 2 and not rots:
                rots += _rot(lender, rng)
        held = _bytes(lender)
        _extract(lender, folder, world, lent)
        result.case(kills)
        result.count("worlds")
        result.count("files rotted", rots)
        result.count("files shared", sum(path.stat().st_nlink > 1 for path in folder.iterdir()))
        if problem := unlike(folder, {identity: contents(whole)}) or _left(folder, whole):
            result.fail(f"world {world}, {kills} kills: {problem}")
        differ = {name for name, data in _bytes(whole).items() if _bytes(lender).get(name) != data}
        if _bytes(lender) != held or len(differ - {manifests.NAME}) > rots:
            result.fail(f"world {world}, {kills} kills: the cache beside was changed: {sorted(differ)}")
    return result


def _extract(lender: Path, folder: Path, world: int, lent: set[str], fatal: int | None = None) -> None:
    """Make the world's cache as extraction does; what the lender has of some parts is taken from there."""
    if fatal is not None:
        Calls(fatal)
    draft = Draft(folder)
    draft.sweep()
    listed = {entry.file: entry for entry in manifests.load(lender).shards}
    for shard in shards(world):
        taken = shard.plan.part.name in lent
        if draft.adopt(shard.plan) or (taken and draft.take(shard.plan, lender, listed[shard.plan.file])):
            continue
        draft.save(shard)
    draft.finish(ABOUT, {})


def _killed(lender: Path, folder: Path, world: int, lent: set[str], fatal: int) -> bool:
    """Whether an extraction died in its call number `fatal` of those that write."""
    pid = child(lambda: _extract(lender, folder, world, lent, fatal))
    status = os.waitpid(pid, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), f"the extraction ended with status {status}"
    return os.WIFSIGNALED(status)


def _rot(lender: Path, rng: random.Random) -> int:
    """Flip a bit of a column of one of the lender's files, which may be the other's too."""
    entry = rng.choice(manifests.load(lender).shards)
    place = rng.choice(list(entry.columns.values())).offset
    with (lender / entry.file).open("r+b") as file:  # not replaced: all its names see it
        file.seek(place)
        bit = file.read(1)[0] ^ 1 << rng.randrange(8)
        file.seek(place)
        file.write(bytes([bit]))
    return 1


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _left(folder: Path, whole: Path) -> str:
    if partial(folder):
        return f"temporary files left: {partial(folder)}"
    names = [{path.name for path in there.iterdir()} for there in (folder, whole)]
    return "" if names[0] == names[1] else f"other files: {sorted(names[0] ^ names[1])}"
