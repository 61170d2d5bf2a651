"""A large file that is read as a map: its bytes, and behind them their xxh3-128."""

import contextlib
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import xxhash

from cache import store
from common.errors import CacheError

CHECKSUM = 16  # bytes


def mapped(path: Path, count: int) -> mmap.mmap | None:
    """Return a map of a file of so many bytes, those that were written; None where there is none such.

    What is written to the map stays in this process.
    """
    with contextlib.suppress(CacheError), store.open_shard(path) as descriptor:
        if os.fstat(descriptor).st_size == count + CHECKSUM:
            data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
            with memoryview(data) as view:
                if xxhash.xxh3_128_digest(view[:count]) == view[count:]:
                    return data
    return None


def write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts, in place of a file that is there.  Raises CacheError where that cannot be."""
    with contextlib.suppress(OSError):  # none, or one that is a colleague's
        path.unlink()
    found = xxhash.xxh3_128()
    with store.published(path) as file:
        for part in parts:
            found.update(part)
            file.write(part)
        file.write(found.digest())
