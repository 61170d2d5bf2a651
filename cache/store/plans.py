"""Files beside shards in which one process tells others what is to be made: found by the sha256 of their bytes.

Each is of one writer, whose name it bears, so that two that plan the same do not take it from each other.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

from cache import store
from cache.store.temporary_names import PREFIX as TEMPORARY
from cache.store.temporary_names import TemporaryName, abandoned
from common.errors import CacheError, OverError
from common.paths import MANIFEST, exists, names, status

PREFIX = ".plan-"
MOST = 1 << 36  # bytes of a plan: of 6,000,000 texts it has some 10^9
ASKED = re.compile(r"([0-9a-f]{64})(?:@([0-9]{1,19}))?")  # of --by-plan: a digest, and when the plan was written
_NAME = re.compile(rf"{re.escape(PREFIX)}([0-9a-f]{{64}})-(.+)")


def write(folder: Path, data: bytes) -> Path:
    """Publish a plan and return its file.  Raises CacheError on a full, read-only or failing disk."""
    writer = str(TemporaryName.new()).removeprefix(TEMPORARY)
    path = folder / f"{PREFIX}{hashlib.sha256(data).hexdigest()}-{writer}"
    store.publish(path, data, replace=False)
    return path


def digest_of(path: Path) -> str:
    """Return the sha256 that a plan's name tells."""
    found = _NAME.fullmatch(path.name)
    assert found is not None, "it is the file of a plan"
    return found[1]


def asked_by(path: Path) -> str:
    """Return what `read` is asked for a plan by: its sha256, and when the file system says that it was written."""
    return f"{digest_of(path)}@{path.stat().st_mtime_ns}"


def read(folder: Path, asked: str) -> bytes:
    """Return the bytes of a plan, of whichever writer.

    Raises CacheError where no file has its sha256, or is damaged; OverError where the cache has been finished since.
    """
    digest, _, written = asked.partition("@")
    damaged: Path | None = None
    for path in _in(folder):
        if digest_of(path) == digest and (data := _bytes(path)) is not None:
            if hashlib.sha256(data).hexdigest() == digest:
                return data
            damaged = path
    if damaged is not None:
        raise CacheError(f"{damaged} is damaged: its bytes have another sha256 than its name says. Plan again")
    finished = status(folder / MANIFEST)
    if written and finished is not None and finished.st_mtime_ns >= int(written):
        raise OverError(f"{folder}/: others have finished the cache of plan {digest[:16]}; nothing is left to do")
    raise CacheError(
        f"no plan {digest[:16]} in {folder}/: either this machine does not see the folder of the process that planned, "
        "or the extraction has ended meanwhile. Let --shards be one folder that all machines share, or leave out "
        "--by-plan"
    )


def _bytes(path: Path) -> bytes | None:
    """Return the bytes of a plan, None if it is removed meanwhile."""
    try:
        with store.open_shard(path):
            return store.read_regular(path, MOST)
    except CacheError:
        if exists(path):
            raise
        return None


def clear(folder: Path) -> None:
    """Remove the plans of a folder whose every shard is there, but for those whose writer is seen to live."""
    for path in _in(folder):
        with contextlib.suppress(OSError):  # another was faster, or it is a colleague's
            if void(path, stale=-math.inf):
                path.unlink()


def void(path: Path, stale: float) -> bool:
    """Whether a plan's writer is dead; where that cannot be told, whether the file is older than `stale` seconds.

    Raises OSError if it is gone.
    """
    found = _NAME.fullmatch(path.name)
    return found is None or abandoned(path, TEMPORARY + found[2], stale)


def _in(folder: Path) -> Iterator[Path]:
    return (folder / name for name in names(folder) if _NAME.fullmatch(name))
