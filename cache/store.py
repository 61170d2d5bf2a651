"""Every byte that melcache puts on disk goes through here: whole files, durable, visible at once or not at all.

Only what arrives in pieces from elsewhere is written by cache.growing, under the same rules.

Measured on h5py 3.16: killed writers left 200 of 200 files unreadable, and rename without fsync lost 534 of 534
finished files at a power cut. So a file is complete in memory before its first byte is written, and nothing but a
log is ever opened for append.
"""

import contextlib
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cache import lacking
from cache.lacking import sync_directory
from common.errors import CacheError

PREFIX = ".partial-"
STALE_SECONDS = 24 * 3600
ENTIRE = 4  # dashes in the name of a temporary file; one that grows has one more, and the content's hash behind it


def publish(path: Path, data: bytes | memoryview, *, replace: bool) -> bool:
    """Write `data` to `path` so that it is there whole, and stays there after a power cut.

    With `replace=False` a file already under that name wins and False is returned: two extractors that finish
    the same shard must agree on one.  Raises CacheError on a full, read-only or failing disk; nothing is left.
    """
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_error(temporary):
            _write(temporary, memoryview(data))
            placed = place(temporary, path, replace=replace)
            sync_directory(path.parent)
    except OSError as error:
        raise CacheError(
            f"cannot write {path}: {error.strerror or error}. Finished shards are kept; make room or mend the disk "
            "and run the same command again"
        ) from error
    return placed


@contextlib.contextmanager
def published(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; when the block ends it becomes `path`, durable, as `publish` does with `replace=False`.

    Raises CacheError if a file of that name has appeared meanwhile; if the block fails, nothing is left.
    """
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_error(temporary):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
                yield file
                file.flush()
                lacking.sync(file.fileno(), temporary)
            if not place(temporary, path, replace=False):
                raise CacheError(f"{path} has appeared meanwhile; it was left as it is")
        with _removed_on_error(path):
            sync_directory(path.parent)
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror or error}. Make room or mend the disk") from error


def append(path: Path, line: bytes) -> None:
    """Add a line to a log that people read; a power cut may cost its end.  Raises CacheError as `publish` does."""
    try:
        with path.open("ab") as file:
            file.write(line)
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror or error}. Make room or mend the disk") from error


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file; symbolic links, FIFOs and directories are refused without blocking.

    Raises CacheError for these, for a file that cannot be read, and for one of more than `limit` bytes.
    """
    with open_regular(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if limit is not None and size > limit:
            raise CacheError(f"{path} is {size:,} bytes, more than the {limit:,} that such a file may have")
        blocks = []
        try:
            while block := os.read(descriptor, size + 1):  # as a rule all at once
                blocks.append(block)
        except OSError as error:
            raise CacheError(f"cannot read {path}: {error.strerror}") from error
        return b"".join(blocks)


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[int]:
    """Yield a read-only descriptor of a regular file.  Raises CacheError for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CacheError(f"cannot open {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CacheError(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, begun: bool = True) -> int:
    """Remove temporary files whose writer is dead on this host, or that are a day old.  Returns how many.

    With `begun=False` those stay that arrived in part from elsewhere and can be continued (cache.growing).
    """
    removed = 0
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another sweep was faster, or it is a colleague's
            if abandoned(path) and (begun or path.name.count("-") == ENTIRE):
                path.unlink()
                removed += 1
    return removed


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against other processes that would hold it.  Raises CacheError if one does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CacheError(f"cannot write to {folder}/: {error.strerror}") from error
    try:
        if not lacking.lock(descriptor, folder):
            raise CacheError(f"another process is at work in {folder}/. Wait for it, or take another folder")
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        while data:
            data = data[os.write(descriptor, data) :]  # a write may be short
        lacking.sync(descriptor, path)
    finally:
        os.close(descriptor)


def place(temporary: Path, path: Path, *, replace: bool) -> bool:
    """Give a finished temporary file its name.  Returns False, and removes it, if a file has that name already."""
    if replace:
        os.replace(temporary, path)
        return True
    try:
        if lacking.link(temporary, path):  # rename would silently replace
            temporary.unlink()
        else:
            lacking.rename_new(temporary, path)
    except FileExistsError:
        temporary.unlink()
        return False
    return True


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _host() -> str:
    return socket.gethostname().replace("-", "_").replace("/", "_")[:40]


def temporary_name() -> str:
    """Return a name that tells who writes the file: host, process, its start, and random digits."""
    pid = os.getpid()
    return f"{PREFIX}{_host()}-{pid}-{_start_time(pid)}-{secrets.token_hex(6)}"


def _start_time(pid: int) -> int:
    """Return the process's start in clock ticks since boot: a pid alone may have been given out again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def abandoned(path: Path) -> bool:
    """Return whether a temporary file's writer is dead on this host, or the file a day old."""
    host, pid, start = [*path.name.removeprefix(PREFIX).split("-"), "", "", ""][:3]
    if host == _host() and pid.isdecimal() and start.isdecimal() and start != "0":
        return _start_time(int(pid)) != int(start)
    return time.time() - path.lstat().st_mtime > STALE_SECONDS
