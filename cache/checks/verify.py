"""Check every byte of a cache against its manifest."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cache import manifests, store
from cache.checks import hdf5_gate
from cache.manifests.entries import Manifest, ShardEntry
from common.errors import CacheError, DeniedError
from common.paths import names

THREADS = 8  # that hash; more than a disk can feed are no faster


@dataclass(frozen=True)
class Finding:
    """One file of a cache.  `problem` is "" where it is as written; `unread`: it may be, but was not looked at."""

    file: str
    bytes: int
    problem: str = ""
    unread: bool = False


def verify(path: Path) -> Iterator[Finding]:
    """Yield a finding for each shard, damaged ones first, then for files that the manifest does not list.

    A shard with the listed bytes is also looked at as HDF5 (cache.checks.hdf5_gate): a stranger's manifest may list
    anything. Raises CacheError if the manifest itself is missing or damaged.
    """
    manifest = manifests.load(path)
    whole = []
    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as pool:
        for shard, finding in zip(
            manifest.shards, pool.map(lambda shard: check(path, shard), manifest.shards), strict=True
        ):
            if finding.problem:
                yield finding
            else:
                whole.append(shard)
    for shard, (_, problem) in zip(whole, hdf5_gate.problems(path, manifest, whole), strict=True):
        strange = (
            f"has the listed bytes, but is not what melcache writes: {problem}. Do not open it with HDF5 tools"
            if problem
            else ""
        )
        yield Finding(shard.file, shard.bytes, strange)
    listed = {manifests.NAME, *(shard.file for shard in manifest.shards)}
    for extra in names(path):
        if extra not in listed and extra.endswith(".h5"):
            yield Finding(
                extra,
                0,
                "not listed in the manifest: of another cache, or left behind; it is never read, melcache gc "
                "removes it",
            )


def refuse_strange(folder: Path, manifest: Manifest) -> None:
    """Raise CacheError for a file that fits its manifest, but as which a stranger has sent something else."""
    for file, found in hdf5_gate.problems(folder, manifest, manifest.shards):
        if found:
            raise CacheError(
                f"{folder / file} has the bytes that its manifest lists, but is not what melcache writes: {found}. "
                "Do not open it with HDF5 tools; remove the folder, and ask whoever gave it to you"
            )


def check(path: Path, shard: ShardEntry) -> Finding:
    """Return whether a shard of a cache directory has the bytes that its entry in the manifest lists."""
    try:
        return Finding(shard.file, shard.bytes, _problem(path / shard.file, shard.bytes, shard.sha256))
    except DeniedError as error:
        return Finding(shard.file, shard.bytes, str(error), unread=True)


def _problem(path: Path, size: int, sha256: str) -> str:
    try:
        with store.open_shard(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            found = path.lstat().st_size
            if found != size:
                return f"{found:,} bytes, the manifest says {size:,}"
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except DeniedError:
        raise
    except CacheError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if actual == sha256 else f"sha256 is {actual[:12]}..., the manifest says {sha256[:12]}..."
