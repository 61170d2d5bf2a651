"""Checksums of shards that are finished and that no manifest lists yet: damaged since, they are not taken.

Each is an empty file beside the shard, named by the shard and the sha256 of its bytes: such a name is there whole or
not at all. It is made before the shard gets its own name, and the fsync of the folder that follows makes both durable.
Of two extractors whose bytes differ, each leaves its own, and the file of either is right.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from cache import manifests, store
from cache.store.resumable_file import WriteError
from common.errors import CacheError
from common.paths import exists, names

NAME = re.compile(r"([a-z0-9_.]+-[0-9]+\.[0-9a-f]{12}\.h5)\.[0-9a-f]{64}")  # group 1: the shard's


def note(folder: Path, file: str, sha256: str) -> None:
    """Say that a shard of these bytes is about to be in the folder.  Raises WriteError on a full or failing disk."""
    path = folder / f"{file}.{sha256}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}. Finished shards are kept; {store.remedy(error)} "
            "and run the same command again"
        ) from error


def known(folder: Path, file: str, sha256: str) -> bool:
    """Return whether a shard was finished with these bytes: as was noted, or as the manifest here says by now.

    A damaged manifest counts, too: the sha256 of a file does not stand in it by chance.
    """
    return exists(folder / f"{file}.{sha256}") or sha256.encode() in _told(folder)


def keep(folder: Path, files: Iterable[str]) -> None:
    """Note what the folder's manifest lists and the one that will take its place, of these shards, does not."""
    following = set(files)
    try:
        listed = manifests.load(folder).shards
    except CacheError:  # none, or a damaged one
        return
    for shard in listed:
        if shard.file not in following and exists(folder / shard.file):
            note(folder, shard.file, shard.sha256)


def forget(folder: Path, files: Iterable[str]) -> None:
    """Remove what was noted of shards: of those that the manifest lists by now, or of those that are gone."""
    gone = set(files)
    for name in names(folder):
        if (found := NAME.fullmatch(name)) and found[1] in gone:
            with contextlib.suppress(OSError):  # another was faster, or it is a colleague's; gc removes it
                (folder / name).unlink()


def _told(folder: Path) -> frozenset[bytes]:
    """Return every sha256 in the manifest's text, none where there is none."""
    try:
        status = (folder / manifests.NAME).lstat()
        return _read(folder / manifests.NAME, status.st_ino, status.st_mtime_ns, status.st_size)
    except (OSError, CacheError):
        return frozenset()


@functools.lru_cache(maxsize=1)
def _read(path: Path, *state: int) -> frozenset[bytes]:
    return frozenset(re.findall(rb'"sha256":"([0-9a-f]{64})"', store.read_regular(path, manifests.MAX_BYTES)))
