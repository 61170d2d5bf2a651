"""What a file system may lack: fsync of a folder, hard links, locks. What is done instead, with one warning each.

CIFS, VirtualBox, FUSE, 9p and exFAT lack some of them, and say so in many ways. A disk that is full or failing says
other things, of fsync as of any write: those stay errors.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import threading
from pathlib import Path

from common.output import say

ENOTSUPP = 524  # of the kernel, not of errno: some NFS servers
# what fsync says where there is none; of a directory also what follows from opening it
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPROTO, ENOTSUPP)
NO_SYNC_OF_DIRECTORIES = (*NO_SYNC, errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM)
# what link says for a full disk, or a file that is gone; all else it says means that there are no hard links
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT)
RENAME_NOREPLACE = 1  # linux/fs.h
AT_FDCWD = -100  # fcntl.h

LOST = "a power cut may lose what was just written"
LACKS = {
    "fsync": f"cannot make files durable: {LOST}",
    "fsync of folders": f"cannot make the names in a folder durable: {LOST}",
    "links": "has no hard links: files get their names by being renamed",
    "links between caches": "lets no two caches share a file: shards are copied",
    "locks": "has no locks: let only one process at a time work there",
}

_told: set[str] = set()
_lock = threading.Lock()


def warn(what: str, where: Path) -> None:
    """Say once what of LACKS a file system lacks."""
    with _lock:
        if what in _told:
            return
        _told.add(what)
    say(f"warning: the file system of {where} {LACKS[what]}")


def sync(descriptor: int) -> None:
    """Make an open file durable, as far as its file system can.  Raises OSError for a disk that is full or fails."""
    _sync(descriptor, "fsync", NO_SYNC)


def sync_directory(folder: Path) -> None:
    """Make the names in a folder durable, as far as its file system can.  Raises OSError as `sync` does."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written to, but not read
        warn("fsync of folders", folder)
        return
    try:
        _sync(descriptor, "fsync of folders", NO_SYNC_OF_DIRECTORIES)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path, what: str = "links") -> bool:
    """Give a file a second name.  Returns False where there are no hard links, and says what of LACKS is lacking.

    Raises FileExistsError if something has that name, and OSError for a full disk or a file that is gone.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise
        warn(what, target.parent)
        return False
    return True


def rename_new(source: Path, target: Path) -> None:
    """Rename a file unless something has the new name: then FileExistsError.

    Where the system cannot do both at once, two that finish at the same moment may replace each other's file.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc has it since 2.28
    if renameat2 is not None:
        if renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) == 0:
            return
        if ctypes.get_errno() == errno.EEXIST:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.replace(source, target)


def lock(descriptor: int, where: Path | None, operation: int = fcntl.LOCK_EX, *, wait: bool = False) -> bool:
    """Take the lock of an open file or folder, held until it is closed.  Returns False if another process has it.

    Without locks on this file system it is as if it were free: what is written there is whole all the same. `where`
    that is, is then said once.
    """
    try:
        fcntl.flock(descriptor, operation | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        if where is not None:
            warn("locks", where)
    return True


def mapped(descriptor: int, size: int) -> mmap.mmap:
    """Map an open file to be read.  Privately, for FUSE with direct_io has no shared maps; the pages are the same."""
    return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as it may: Python keeps one open for every map."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _sync(descriptor: int, what: str, lacks: tuple[int, ...]) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in lacks:
            raise
        try:
            where = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            where = "this folder"
        warn(what, Path(where))
