"""Shards on their way here from a remote: continued inside a file, and checked before a file has its name."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cache.manifests.entries import ShardEntry
from cache.remotes.base import Remote
from cache.store import temporary_names
from cache.store.resumable_file import Growing
from cache.writing import checksums
from common.errors import CacheError
from common.foreign import shell
from common.output import size
from common.paths import exists, is_folder


class DamagedError(CacheError):
    """A file at a remote is not what its manifest lists."""


class Fetch:
    """Takes files from a remote into a folder.  `advance` is told of bytes, of negative ones where some begin anew."""

    def __init__(self, folder: Path, remote: Remote, advance: Callable[[int], None]) -> None:
        self._folder, self._remote, self._advance = folder, remote, advance

    def take(self, shard: ShardEntry, *, replace: bool) -> int:
        """Take the file of a shard's manifest entry and return the bytes that came; a kill keeps what has arrived.

        With `replace=False` a file there already wins. Raises DamagedError, WriteError where the disk here fails,
        and CacheError where the remote does.
        """
        with Growing(self._folder / shard.file, shard.sha256) as file:
            if file.size > shard.bytes:  # of a manifest that lied
                file.clear()
            begun = file.size
            if not self._continue(file, shard):  # what was begun was not of this content, or the line is bad
                self._advance(-file.size)
                file.clear()
                begun = 0
                if not self._continue(file, shard):
                    file.clear()
                    raise DamagedError(
                        f"{self._remote.where(shard.file)} does not match its manifest after two tries: damaged there. "
                        f"Whoever has the cache repairs it: melcache push {shell(self._folder.name)} "
                        f"{shell(self._remote.url)} --check"
                    )
            checksums.note(self._folder, shard.file, shard.sha256)  # an extraction may go on from it
            file.place(replace=replace)
        return shard.bytes - begun

    def _continue(self, file: Growing, shard: ShardEntry) -> bool:
        """Take the rest of a file and return whether all of it is right."""
        digest = hashlib.sha256()
        for block in file.blocks():
            digest.update(block)
            self._advance(len(block))
        while file.size < shard.bytes:
            wanted = min(self._remote.block_size, shard.bytes - file.size)
            block = self._remote.block(shard.file, file.size, wanted)
            file.write(block)
            digest.update(block)
            self._advance(len(block))
        return digest.hexdigest() == shard.sha256


def check_space(folder: Path, shards: Sequence[ShardEntry], doing: str, advice: str) -> None:
    """Raise CacheError where the disk has no room for the files of these entries that are not here."""
    begun = {}
    for path, name in temporary_names.in_folder(folder):
        with contextlib.suppress(OSError):  # it has its name by now
            begun[name.content if name else ""] = path.lstat().st_size
    missing = [shard for shard in shards if not exists(folder / shard.file)]
    needed = sum(max(0, shard.bytes - begun.get(shard.sha256[: temporary_names.CONTENT], 0)) for shard in missing)
    there = free(folder)
    if there is not None and needed > there:
        raise CacheError(f"{folder} has {size(there)} free, {doing} needs {size(needed)}. {advice}")


def free(folder: Path) -> int | None:
    """Return the free bytes of the disk on which a folder is, or will be; None where its file system does not say."""
    there = next(path for path in (folder, *folder.absolute().parents) if is_folder(path))
    try:
        disk = os.statvfs(there)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None
