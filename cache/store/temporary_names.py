"""Names of temporary files: each says who writes the file, so that what a dead writer left is known from living work.

A pid means something in one PID namespace of one running kernel alone: containers may share a host name and a folder
and not see each other's processes. So a name holds both, and a writer holds a lock on its file, which every process
under the same kernel sees. Where neither tells, only what has not been written to for long counts as left behind.
"""

import fcntl
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = ".partial-"
STALE_SECONDS = 24 * 3600.0
QUIET_SECONDS = 600.0  # of a name without a namespace, as older versions gave: a pid that is free may live elsewhere
DEAD = "ZX"  # states in /proc of what has ended, but that its parent has not asked for yet
NOBODY = "0"  # the process of a writer that ended in order: anyone may go on
_WRITER = re.compile(rf"(?:{re.escape(PREFIX)})?([^-]*?)(?:\.([0-9a-f]{{12}})\.([0-9]+))?-([0-9]+)-([0-9]+)-.*")


@dataclass(frozen=True)
class Home:
    """Where a pid names one process: in a PID namespace, under a kernel, by its boot.  "" where /proc does not tell."""

    host: str
    boot: str
    namespace: str


def name() -> str:
    """Return a new name that tells who writes the file: where, process, its start, and random digits."""
    here, pid = _here(), os.getpid()
    where = f"{here.host}.{here.boot}.{here.namespace}" if here.boot else here.host
    return f"{PREFIX}{where}-{pid}-{(here.boot and _start(pid)) or 0}-{secrets.token_hex(6)}"


def hold(descriptor: int, *, wait: bool = True) -> bool:
    """Lock a file for as long as it is open, a new one before its first byte.  Return whether nobody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def abandoned(path: Path, writer: str = "", stale: float = STALE_SECONDS) -> bool:
    """Return whether the writer of a file is dead: the one in its name, or the one named.

    Where that cannot be told, whether nothing was written for `stale` seconds. Raises OSError if the file is gone.
    """
    quiet = time.time() - path.lstat().st_mtime
    found = _WRITER.fullmatch(writer or path.name)
    if found is None:
        return quiet > stale
    (host, boot, namespace, pid, start), here = found.groups(), _here()
    if pid == NOBODY:
        return True
    started = _start(int(pid)) if start != "0" else None
    if boot and boot == here.boot:
        if namespace == here.namespace and started is not None:
            return started != int(start)
        return quiet > stale or _free(path)
    if host == here.host and boot:  # this machine has been started again, or another one has its name
        return quiet > min(stale, time.clock_gettime(time.CLOCK_BOOTTIME))
    if host == here.host and started is not None:
        return started != int(start) and quiet > min(stale, QUIET_SECONDS)
    return quiet > stale


def _here() -> Home:
    host = socket.gethostname().replace("-", "_").replace("/", "_")[:40]
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:12]
        return Home(host, boot, re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")))
    except OSError:
        return Home(host, "", "")


def _start(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot, 0 where there is none: its pid may have been given out again.

    None where /proc does not tell, or is that of another namespace.
    """
    try:
        if int(os.readlink("/proc/self")) != os.getpid():
            return None
    except (OSError, ValueError):
        return None
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if state in DEAD else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0


def _free(path: Path) -> bool:
    """Return whether nobody holds a file of this kernel that has been written to; False where that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS lets no reader lock alone
        return os.fstat(descriptor).st_size > 0  # an empty one may be about to be locked
    except OSError:
        return False
    finally:
        os.close(descriptor)
