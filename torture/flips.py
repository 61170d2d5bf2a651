"""Rot: single bits, pages and ends of a cache's files change; nothing of it may be read as a number."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache import manifest
from cache.reader import Reader
from cache.verify import verify
from common.errors import CacheError
from torture.world import Result, build, contents

PAGE = 512  # the files are small; a real page would be most of one


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
    result, rng, folder = Result("bit rot"), random.Random(seed), scratch / "cache"
    build(folder, seed)
    expected = contents(folder)
    files = sorted(folder.iterdir())
    good = {path: path.read_bytes() for path in files}
    weights = [len(good[path]) for path in files]
    for change, times in ((flip, count), *((other, count // 20) for other in OTHERS)):
        for _ in range(times):
            path = rng.choices(files, weights)[0]
            _try(path, change(good[path], rng), good[path], expected, result, change.__name__)
    names = [path for path in files if path.name != manifest.NAME]
    for first in names:  # whole shards exchanged
        second = rng.choice([path for path in names if path != first])
        _try(first, good[second], good[first], expected, result, "exchange")
    return result


def _try(path: Path, bad: bytes, good: bytes, expected: dict[str, np.ndarray], result: Result, kind: str) -> None:
    if bad == good:
        return
    path.write_bytes(bad)
    result.case()
    result.count(kind)
    try:
        _check(path, expected, result, f"{kind} {result.tried} in {path.name}")
    finally:
        path.write_bytes(good)


def _check(path: Path, expected: dict[str, np.ndarray], result: Result, what: str) -> None:
    """Note where a damaged file is not found by verify, or gives another number."""
    try:
        found = [finding.file for finding in verify(path.parent) if finding.problem]
        if found != [path.name]:
            result.fail(f"{what}: verify names {found}")
    except CacheError:  # the manifest itself
        if path.name != manifest.NAME:
            result.fail(f"{what}: verify raises")
    try:
        reader = Reader(path.parent)
    except CacheError:
        return
    for name, values in expected.items():
        try:
            if not np.array_equal(reader.column(name), values):
                result.fail(f"{what}: {name} gives other numbers")
        except CacheError as error:
            if path.name not in str(error):
                result.fail(f"{what}: {error}")
