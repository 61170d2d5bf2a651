"""What is odd about a remote: values that cannot be, sizes that are lies, things in place of files, and how it comes.

A damage changes the folder and its parsed manifest, which is sealed anew; a carrier changes how the folder is read.
"""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cache import manifests
from cache.remotes import patience
from cache.remotes.folder import Folder
from torture.tiny_cache import put

LARGE = 2 << 40

Damage = Callable[[Path, dict[str, Any]], object]  # of the folder and the parsed manifest, which is sealed afterwards


def entry(told: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the first shard of a part."""
    return next(shard for shard in told["shards"] if shard["part"] == part)


def forged(part: str, column: str, value: float) -> Damage:
    """Return the damage that puts a value into a column, in file and manifest."""

    def damage(place: Path, told: dict[str, Any]) -> None:
        shard, spec = entry(told, part), told["parts"][part]["columns"][column]
        where, count = shard["columns"][column], shard["rows"] * int(np.prod(spec["shape"], dtype=int))
        data = bytearray((place / shard["file"]).read_bytes())
        values = np.frombuffer(data, np.uint8 if spec["dtype"] == "|b1" else spec["dtype"], count, where["offset"])
        values[-1] = value
        if where["min"] is not None and np.isfinite(value):
            where["min"], where["max"] = values.min().item(), values.max().item()
        where["xxh3"] = xxhash.xxh3_128_hexdigest(values.tobytes())
        shard["sha256"] = hashlib.sha256(data).hexdigest()
        put(place / shard["file"], data)

    return damage


def _large_shard(place: Path, told: dict[str, Any]) -> None:
    shard = entry(told, "entity.text")
    shard["bytes"] = LARGE
    os.truncate(place / shard["file"], LARGE)


def _large_ids(place: Path, told: dict[str, Any]) -> None:
    """Let ids of 100 MB a row begin behind the file's honest bytes."""
    told["parts"]["entity.ids"]["columns"]["id"]["dtype"] = "|S999999"
    for shard in (shard for shard in told["shards"] if shard["part"] == "entity.ids"):
        shard["columns"]["id"]["offset"] = shard["bytes"]
        shard["bytes"] += shard["rows"] * 999_999
        os.truncate(place / shard["file"], shard["bytes"])


def _many_ids(place: Path, told: dict[str, Any]) -> None:
    """Let there be 8 GB of ids, in a billion rows."""
    rows = (8 << 30) // 12
    told["tables"]["entity"], told["generations"] = rows, [[rows, told["tables"]["mention"]]]
    for part in ("entity.ids", "entity.text", "entity.objects"):
        first = entry(told, part)
        told["shards"] = [shard for shard in told["shards"] if shard["part"] != part or shard is first]
        first["rows"], offset = rows, 4096
        for column, where in first["columns"].items():
            spec = told["parts"][part]["columns"][column]
            where["offset"] = offset
            offset += rows * np.dtype(spec["dtype"]).itemsize * int(np.prod(spec["shape"], dtype=int))
        first["bytes"] = offset
        os.truncate(place / first["file"], offset)


def _without(part: str) -> Damage:
    def damage(place: Path, told: dict[str, Any]) -> None:
        del told["parts"][part]
        told["shards"] = [shard for shard in told["shards"] if shard["part"] != part]

    return damage


def _replaced(name: str, kind: str) -> Damage:
    """Return the damage that puts something else in a file's place."""

    def damage(place: Path, told: dict[str, Any]) -> None:
        path = place / (name or entry(told, "entity.text")["file"])
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path)
        elif kind == "empty":
            path.touch()

    return damage


FORGED: dict[str, Damage] = {
    "a reason code that is none": forged("entity.ids", "image_status", 200),
    "a gold that is no row": forged("mention.ids", "gold", 57),
    "a gold far below": forged("mention.ids", "gold", -(2**31)),
    "a split that is none": forged("mention.ids", "splits", 255),
    "a candidate that is no row": forged("pair.candidates", "candidates", 1_000_000),
    "another candidate": forged("pair.candidates", "candidates", 5),
    "a gold that is no candidate": forged("pair.candidates", "gold", 2),
    "a score of strings": forged("pair.candidates", "lexical", 1e30),
    "a label that is none": forged("entity.objects", "labels", 1 << 30),
    "a box of 1e38 pixels": forged("entity.objects", "boxes", 1e38),
    "a score that is none": forged("entity.objects", "scores", -1),
    "neither true nor false": forged("entity.text", "truncated", 7),
    "neither found nor not": forged("mention.text", "found", 255),
    "NaN": forged("entity.text", "sentence", np.nan),
    "infinity": forged("mention.text", "span", np.inf),
}
TOLD: dict[str, Damage] = {
    "a shard of 2 TB": _large_shard,
    "ids of a megabyte each": _large_ids,
    "8 GB of ids": _many_ids,
    "no entity ids": _without("entity.ids"),
    "no mention ids": _without("mention.ids"),
    "generations without end": lambda place, told: told.update(generations=told["generations"] * 100_000),
    "a FIFO as manifest": _replaced(manifests.NAME, "fifo"),
    "a directory as manifest": _replaced(manifests.NAME, "directory"),
    "a link to itself as manifest": _replaced(manifests.NAME, "link"),
    "a FIFO as shard": _replaced("", "fifo"),
    "a directory as shard": _replaced("", "directory"),
    "an empty shard": _replaced("", "empty"),
    "a file as folder of copies": _replaced(manifests.COPIES, "empty"),
    "a FIFO as folder of copies": _replaced(manifests.COPIES, "fifo"),
}


Carrier = Callable[[Path, "Clock"], contextlib.AbstractContextManager[None]]


class Clock:
    """A clock that what drips sets forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def _drip(place: Path, clock: Clock) -> Iterator[None]:
    """Let every byte take a second."""
    real = os.pread

    def pread(descriptor: int, size: int, start: int) -> bytes:
        clock.now += 1
        return real(descriptor, 1, start)

    with _in_place(os, "pread", pread):
        yield


@contextlib.contextmanager
def _silence(place: Path, clock: Clock) -> Iterator[None]:
    """Let nothing be answered; the first question passes."""
    asked, for_ever = [], threading.Event()

    def pread(descriptor: int, size: int, start: int) -> bytes:
        asked.append(start)
        clock.now += patience.WINDOW
        for_ever.wait()
        raise AssertionError("nobody waits for this")

    with _in_place(os, "pread", pread):
        yield


def _raises(owner: Any, name: str, error: Exception) -> Carrier:
    def raising(*given: Any, **more: Any) -> Any:
        raise error

    return lambda place, clock: _in_place(owner, name, raising)


@contextlib.contextmanager
def _gone_in_the_middle(place: Path, clock: Clock) -> Iterator[None]:
    """Remove everything once something has been read."""
    real = os.pread

    def pread(*given: Any) -> bytes:
        shutil.rmtree(place, ignore_errors=True)
        return real(*given)

    with _in_place(os, "pread", pread):
        yield


@contextlib.contextmanager
def _in_place(owner: Any, name: str, new: Any) -> Iterator[None]:
    real = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, real)


# how it comes: what a client library may raise at an answer that its authors did not expect, and how little may come
CARRIED: dict[str, Carrier] = {
    "a byte a second": _drip,
    "nothing at all": _silence,
    "gone in the middle": _gone_in_the_middle,
    "no field of that name": _raises(os, "pread", KeyError("ETag")),
    "none where something was": _raises(os, "pread", TypeError("'NoneType' object is not subscriptable")),
    "no UTF-8": _raises(os, "pread", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")),
    "answers inside answers": _raises(os, "pread", RecursionError("maximum recursion depth exceeded")),
    "more than memory": _raises(os, "pread", MemoryError()),
    "no list": _raises(Folder, "_files", ValueError("no list")),
    "a list of nothing": _raises(Folder, "_files", AttributeError("'NoneType' object has no attribute 'get'")),
    "an end in the middle": _raises(os, "pread", EOFError()),
    "no route": _raises(os, "pread", ConnectionResetError()),
    "no permission": _raises(Folder, "_files", PermissionError(13, "Permission denied")),
}
