"""Rot before the manifest: finished shards of an interrupted extraction are damaged, or lose their checksums.

Nothing lists them yet. What has changed is made again, what has not is kept, and the cache is the uninterrupted one.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from cache import manifests
from cache.writing import checksums
from torture.machines.bit_rot import extend, flip, swap, truncate, zero
from torture.tiny_cache import SHARDS, Result, build, contents, fast_disk, put, unlike

DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, flip, flip, truncate, extend, zero, swap)
Files = dict[str, bytes]


class _KilledError(Exception):
    """The extraction ends here."""


def run(scratch: Path, count: int, seed: int) -> Result:
    """Damage up to three shards of an extraction that was killed after any number of them, `count` times, and resume.

    Every seventh time a checksum is lost instead, and every seventh time two shards have changed places.
    """
    result, rng, whole = Result("rot before the manifest"), random.Random(seed), scratch / "whole"
    with fast_disk():
        identity = build(whole, seed)
        known, expected = {identity: contents(whole)}, _files(whole)
        killed = [interrupted(scratch / f"killed-{shards}", seed, shards) for shards in range(1, SHARDS + 1)]
        while result.tried < count:
            files = dict(rng.choice(killed))
            damaged = _damage(files, rng, result)
            folder = scratch / "resumed"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, data in files.items():
                put(folder / name, data)
            begun: list[None] = []
            kept = len(_shards(files)) - len(damaged)
            again = build(folder, seed, begun=lambda begun=begun: begun.append(None))
            result.case()
            if problem := unlike(folder, known) or ("" if again == identity else "another id"):
                result.fail(f"case {result.tried}, {sorted(damaged)}: {problem}")
            if len(begun) != SHARDS - kept or _files(folder) != expected:
                result.fail(f"case {result.tried}, {sorted(damaged)}: {len(begun)} shards made, {kept} were whole")
    return result


def interrupted(folder: Path, seed: int, shards: int) -> Files:
    """Extract a world until so many shards are finished, and return the files that are there then."""
    left = iter(range(shards - 1, -1, -1))

    def saved(path: Path) -> None:
        if next(left) == 0:
            raise _KilledError

    try:
        build(folder, seed, saved)
    except _KilledError:
        return _files(folder)
    raise AssertionError("the extraction was not killed")


def take_back(folder: Path) -> None:
    """Turn a cache into what a kill before its manifest leaves."""
    for shard in manifests.load(folder).shards:
        checksums.note(folder, shard.file, shard.sha256)
    (folder / manifests.NAME).unlink()


def _damage(files: Files, rng: random.Random, result: Result) -> set[str]:
    """Damage some of the files in place, and return which shards that concerns."""
    shards = _shards(files)
    kind = rng.randrange(7)
    if kind == 0:
        name = rng.choice([name for name in files if checksums.NAME.fullmatch(name)])
        del files[name]
        result.count("checksums lost")
        return {checksums.NAME.fullmatch(name)[1]}
    if kind == 1 and len(shards) > 1:
        first, second = rng.sample(shards, 2)
        files[first], files[second] = files[second], files[first]
        result.count("shards exchanged")
        return {first, second} if files[first] != files[second] else set()
    damaged = set()
    for name in rng.sample(shards, min(len(shards), rng.randint(1, 3))):
        bad = rng.choice(DAMAGES)(files[name], rng)
        damaged |= {name} if bad != files[name] else set()
        files[name] = bad
    result.count("shards damaged", len(damaged))
    return damaged


def _shards(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(".h5"))


def _files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
