"""Every byte that melcache puts on disk goes through here: whole files, durable, visible at once or not at all.

Only what arrives in pieces from elsewhere is written by cache.store.resumable_file, under the same rules.

Measured on h5py 3.16: killed writers left 200 of 200 files unreadable, and rename without fsync lost 534 of 534
finished files at a power cut. So a file is complete in memory before its first byte is written, and nothing but a
log is ever opened for append.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cache.store import lacking, temporary_names
from cache.store.lacking import sync_directory
from cache.store.temporary_names import TemporaryName
from common.errors import BusyError, CacheError, DeniedError
from common.foreign import shell
from common.output import say
from common.paths import denied, exists

HOLLOW = 1 << 30  # bytes from which on a file must be more than holes
STORED = 64  # at least one in so many of them is on the disk: a compressed one may hold zeros in much less space


def publish(path: Path, data: bytes | memoryview, *, replace: bool) -> bool:
    """Write `data` to `path` so that it is there whole, and stays there after a power cut.

    With `replace=False` a file already under that name wins and False is returned: two extractors that finish
    the same shard must agree on one.  Raises CacheError on a full, read-only or failing disk; nothing is left.
    """
    temporary = path.parent / str(TemporaryName.new())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _created(temporary) as descriptor:
            _write(descriptor, memoryview(data))
            placed = place(temporary, path, replace=replace)
            sync_directory(path.parent)
    except OSError as error:
        raise CacheError(
            f"cannot write {path}: {error.strerror or error}. Finished shards are kept; {remedy(error)} and run "
            "the same command again"
        ) from error
    return placed


@contextlib.contextmanager
def published(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; when the block ends it becomes `path`, durable, as `publish` does with `replace=False`.

    Raises CacheError if a file of that name has appeared meanwhile; if the block fails, nothing is left.
    """
    temporary = path.parent / str(TemporaryName.new())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _created(temporary) as descriptor:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                yield file
                file.flush()
                lacking.sync(file.fileno())
            if not place(temporary, path, replace=False):
                raise CacheError(f"{path} has appeared meanwhile; it was left as it is")
        with _removed_on_error(path):
            sync_directory(path.parent)
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror or error}: {remedy(error)}") from error


def append(path: Path, line: bytes) -> None:
    """Add a line to a log that people read; a power cut may cost its end.  Raises CacheError as `publish` does."""
    try:
        with path.open("ab") as file:
            file.write(line)
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror or error}: {remedy(error)}") from error


def remedy(error: OSError) -> str:
    """Return what to do where a file cannot be written."""
    if isinstance(error, PermissionError):
        return "let this user write there"
    if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return "move what has that name out of the way, or choose another place,"
    return "make room or check the disk"


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
        raise _unopened(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CacheError(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_shard(path: Path) -> Iterator[int]:
    """Yield a read-only descriptor as `open_regular` does.  Raises CacheError also for a large file of holes."""
    with open_regular(path) as descriptor:
        if _hollow(descriptor):
            raise CacheError(
                f"{path} has {os.fstat(descriptor).st_size:,} bytes, but almost none of them are on the disk: a sparse "
                "file, as no file of a cache is. Get it again"
            )
        yield descriptor


def _hollow(descriptor: int) -> bool:
    """Return whether a large file is holes: to read it takes as long as if it were there, and may take all memory."""
    found = os.fstat(descriptor)
    if found.st_size < HOLLOW or found.st_blocks * 512 * STORED > found.st_size:
        return False
    with contextlib.suppress(OSError):  # a file system that has no holes, and does not say what it stores
        try:
            return os.lseek(descriptor, 0, os.SEEK_HOLE) < found.st_size
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    return False


def link(path: Path) -> DeniedError:
    """Return the error for a symbolic link in place of a file of a cache: what it points to may change, or be anyone's.

    The Hub's download cache, DVC and git-annex keep files so.
    """
    gone = "" if path.exists() else " to a missing file"
    return DeniedError(
        f"{path} is a link{gone}: copy with cp -L, as in cp -rL {shell(path.parent)} COPY, and take the copy. A cache "
        "holds files of its own"
    )


def _unopened(path: Path, error: OSError) -> CacheError:
    if error.errno == errno.ELOOP and path.is_symlink():
        return link(path)
    if isinstance(error, PermissionError):
        return denied("open", path, error)
    return CacheError(f"cannot open {path}: {error.strerror}")


def sweep(folder: Path, *, begun: bool = True) -> int:
    """Remove temporary files whose writer is dead, or that are a day old.  Returns how many.

    With `begun=False` those stay that arrived in part from elsewhere and can be continued (cache.store.resumable_file).
    """
    removed = 0
    for path, name in temporary_names.in_folder(folder):
        with contextlib.suppress(OSError):  # another sweep was faster, or it is a colleague's
            if temporary_names.abandoned(path) and (begun or name is None or not name.content):
                path.unlink()
                removed += 1
    return removed


def alone(folder: Path, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
    """Hold a folder, made if need be, against all other processes at work in it.

    Raises BusyError if one is; with `wait` it is waited for, which is said.
    """
    return _at_work(folder, fcntl.LOCK_EX, wait)


def together(folder: Path, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
    """Hold a folder with others that only add files, against those that need it `alone`.  Waits, raises as that."""
    return _at_work(folder, fcntl.LOCK_SH, wait)


@contextlib.contextmanager
def _at_work(folder: Path, operation: int, wait: bool) -> Iterator[None]:
    made = not exists(folder)
    descriptor = _opened(folder)
    while not lacking.lock(descriptor, folder, operation):
        if not wait:
            os.close(descriptor)
            raise BusyError(f"another process is writing to {folder}/. Wait for it, or use another folder")
        say(f"another process is writing to {folder}/; waiting for it")
        lacking.lock(descriptor, None, operation, wait=True)
        os.close(descriptor)
        made, descriptor = False, _opened(folder)  # who had it may have removed it
    try:
        yield
    finally:
        # an empty folder that was there before is its owner's; one that another holds by now is no longer ours alone
        if made and lacking.lock(descriptor, folder):
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
        os.close(descriptor)


def _opened(folder: Path) -> int:
    """Return the descriptor of a folder, made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CacheError(f"cannot write to {folder}/: {error.strerror}") from error


@contextlib.contextmanager
def _created(temporary: Path) -> Iterator[int]:
    """Yield the descriptor of a new temporary file, held until it has its name; if the block fails, none is left."""
    with _removed_on_error(temporary):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            lacking.lock(descriptor, None, wait=True)  # before its first byte
            yield descriptor
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]  # a write may be short
    lacking.sync(descriptor)


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
