"""Check every byte of a cache against its manifest."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import manifest as manifests
from cache import store
from common.errors import CacheError

THREADS = 8  # that hash; more than a disk can feed are no faster


@dataclass(frozen=True)
class Finding:
    """One file of a cache.  `problem` is "" where it is as written."""

    file: str
    bytes: int
    problem: str = ""


def verify(path: Path) -> Iterator[Finding]:
    """Yield a finding for each shard, in the manifest's order, then for files that the manifest does not list.

    Raises CacheError if the manifest itself is missing or damaged.
    """
    manifest = manifests.load(path)

    def look(shard: dict[str, Any]) -> Finding:
        return Finding(shard["file"], shard["bytes"], _problem(path / shard["file"], shard["bytes"], shard["sha256"]))

    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as pool:
        yield from pool.map(look, manifest["shards"])
    listed = {manifests.NAME, *(shard["file"] for shard in manifest["shards"])}
    for extra in sorted(entry.name for entry in path.iterdir()):
        if extra not in listed and extra.endswith(".h5"):
            yield Finding(
                extra,
                0,
                "not listed in the manifest: another cache's, or left behind; never read, melcache gc removes it",
            )


def _problem(path: Path, size: int, sha256: str) -> str:
    try:
        with store.open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            found = path.lstat().st_size
            if found != size:
                return f"{found:,} bytes, the manifest says {size:,}"
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except CacheError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if actual == sha256 else f"sha256 is {actual[:12]}..., the manifest says {sha256[:12]}..."
