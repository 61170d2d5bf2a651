"""Rot: single bits, pages and ends of a cache's files change; each change is found, and none is read as a number.

Looking at one damaged file takes a millisecond, at the whole cache a hundred; so the whole is looked at for a sample,
which must find the same.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache import manifests, partial_cache, store
from cache.checks.verify import check, verify
from cache.names import ColumnName
from cache.reader import Reader
from common.errors import CacheError
from torture.tiny_cache import PARTS, Result, build, fast_disk, put

PAGE = 512  # the files are small; a real page would be most of one
TAKEN = tuple(PARTS)[:-1]  # the cache is a part of another, so that every kind of file is there
WHOLE = 25  # cases that are also looked at as a whole


def flip(data: bytes, rng: random.Random) -> bytes:
    """Return data with one bit changed."""
    changed, position = bytearray(data), rng.randrange(len(data))
    changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Return the beginning of data."""
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    """Return data with more at its end."""
    return data + rng.randbytes(rng.randrange(1, PAGE))


def zero(data: bytes, rng: random.Random) -> bytes:
    """Return data with a page of zeros."""
    begin = rng.randrange(len(data))
    end = min(begin + PAGE, len(data))
    return data[:begin] + bytes(end - begin) + data[end:]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Return data with two pages exchanged."""
    if len(data) < 2 * PAGE:
        return data
    first = rng.randrange(len(data) - 2 * PAGE + 1)
    second = rng.randrange(first + PAGE, len(data) - PAGE + 1)
    pages = data[first : first + PAGE], data[second : second + PAGE]
    return data[:first] + pages[1] + data[first + PAGE : second] + pages[0] + data[second + PAGE :]


OTHERS: tuple[Callable[[bytes, random.Random], bytes], ...] = (truncate, extend, zero, swap)


def run(scratch: Path, count: int, seed: int) -> Result:
    """Flip `count` single bits over all files, each as often as its size asks, and a fifth as many other damages."""
    result, rng = Result("bit rot"), random.Random(seed)
    rot = Rot(_part(scratch, seed), result)
    paths = list(rot.good)
    weights = [len(data) for data in rot.good.values()]
    changes = [flip] * count + [other for other in OTHERS for _ in range(count // 20)]
    sample = set(rng.sample(range(len(changes)), min(WHOLE, len(changes))))
    for i, change in enumerate(changes):
        path = rng.choices(paths, weights)[0]
        rot.damage(path, change(rot.good[path], rng), change.__name__, whole=i in sample)
    for first in rot.shards:  # whole files exchanged
        second = rng.choice([path for path in rot.shards if path != first])
        rot.damage(first, rot.good[second], "exchange", whole=False)
    return result


def _part(scratch: Path, seed: int) -> Path:
    """Write a cache, and beside it what a pull of some of its parts leaves; return that."""
    whole, folder = scratch / "whole", scratch / "part"
    with fast_disk():
        build(whole, seed)
        found = manifests.load(whole)
        part = partial_cache.take(found, TAKEN)
        for shard in part.shards:
            store.publish(folder / shard.file, (whole / shard.file).read_bytes(), replace=False)
        store.publish(folder / manifests.copy_of(found.id), manifests.written(found.as_json()), replace=False)
        store.publish(folder / manifests.NAME, manifests.written(part.as_json()), replace=False)
    shutil.rmtree(whole)
    return folder


class Rot:
    """A whole cache and its files' bytes, one of which is damaged at a time."""

    def __init__(self, folder: Path, result: Result) -> None:
        self._folder, self._result = folder, result
        self._reader = Reader(folder)
        self._expected = self._reader.load(self._reader.columns)
        self._entries = {folder / shard.file: shard for shard in self._reader.manifest.shards}
        self.good = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        self.shards = list(self._entries)

    def damage(self, path: Path, bad: bytes, kind: str, *, whole: bool) -> None:
        """Put bad bytes into a file, look, and put the good ones back."""
        if bad == self.good[path]:
            return
        put(path, bad)
        self._result.case()
        self._result.count(kind)
        what = f"{kind} {self._result.tried} in {path.name}"
        if not self._noticed(path):
            self._result.fail(f"{what}: not detected")
        self._read(path, what)
        if whole:
            self._result.count("looked at as a whole")
            if not self._noticed_by_verify(path):
                self._result.fail(f"{what}: verify of the whole cache says otherwise")
        put(path, self.good[path])

    def _noticed(self, path: Path) -> bool:
        if path in self._entries:
            return bool(check(self._folder, self._entries[path]).problem)
        try:
            Reader(self._folder)
        except CacheError:
            return True
        return False

    def _noticed_by_verify(self, path: Path) -> bool:
        try:
            found = [finding.file for finding in verify(self._folder) if finding.problem]
        except CacheError:  # the manifest
            return path not in self._entries
        if path in self._entries:
            return found == [path.name]
        return not found and path.parent != self._folder  # verify does not read the proof, a reader does

    def _read(self, path: Path, what: str) -> None:
        """Note where a column of the damaged part gives another number."""
        if path not in self._entries:
            return
        part = self._entries[path].part
        names = [name for name in self._reader.columns if ColumnName(name).part == part]
        try:
            found = self._reader.load(names)
        except CacheError as error:
            if path.name not in str(error):
                self._result.fail(f"{what}: {error}")
            return
        for name in names:
            if not np.array_equal(found[name], self._expected[name]):
                self._result.fail(f"{what}: {name} gives other numbers")
