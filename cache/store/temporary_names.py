"""Names of temporary files: each says who writes the file, so that what a dead writer left is known from living work.

A pid means something in one PID namespace of one running kernel alone: containers may share a host name and a folder
and not see each other's processes. So a name holds both, and a writer holds a lock on its file, which every process
under the same kernel sees. If neither tells, a file counts as left behind only after long without writes.
"""

import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

PREFIX = ".partial-"
SEARCH = ".search-"  # of what is only made again if it is removed: codes of vectors
STALE_SECONDS = 24 * 3600.0
QUIET_SECONDS = 600.0  # of a name without a namespace, as older versions gave: its process may live on another machine
DEAD = "ZX"  # states in /proc of what has ended, but that its parent has not asked for yet
NOBODY = 0  # the process of a writer that ended in order: anyone may go on
CONTENT = 16  # hex digits of a content's hash in the name of a file that is continued
_NAME = re.compile(
    rf"(?:{re.escape(PREFIX)})?([^-]*?)(?:\.([0-9a-f]{{12}})\.([0-9]+))?-([0-9]{{1,19}})-([0-9]{{1,19}})-([^-]*)(?:-(.*))?"
)


@dataclass(frozen=True)
class Home:
    """Where a pid names one process: in a PID namespace, under a kernel, by its boot.  "" where /proc does not tell."""

    host: str
    boot: str
    namespace: str


@dataclass(frozen=True)
class TemporaryName:
    """Who writes a temporary file: where, which process, its start in clock ticks (0: not known), and random digits.

    `content` is what a content's hash begins with: of a file that the next writer of that content continues, else "".
    """

    home: Home
    pid: int
    start: int
    token: str
    content: str = ""

    @classmethod
    def new(cls, content: str = "") -> Self:
        """Return a new name of this process's; with the sha256 (hex) of a content, of a file that can be continued."""
        here, pid = _here(), os.getpid()
        return cls(here, pid, (_start(pid) if here.boot else 0) or 0, secrets.token_hex(6), content[:CONTENT])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what a file's name says, be it of an older version's; None where it is none of melcache's."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        host, boot, namespace, pid, start, token, content = found.groups()
        return cls(Home(host, boot or "", namespace or ""), int(pid), int(start), token, content or "")

    def __str__(self) -> str:
        home = self.home
        where = f"{home.host}.{home.boot}.{home.namespace}" if home.boot else home.host
        content = f"-{self.content}" if self.content else ""
        return f"{PREFIX}{where}-{self.pid}-{self.start}-{self.token}{content}"

    def continues(self, content: str) -> bool:
        """Whether the file is the beginning of the content with this sha256 (hex)."""
        return self.content == content[:CONTENT]

    def left(self) -> Self:
        """Return the name under which a writer that ends in order leaves what the next one continues."""
        return replace(self, pid=NOBODY, start=1)


def in_folder(folder: Path) -> Iterator[tuple[Path, TemporaryName | None]]:
    """Yield the temporary files of a folder and what their names say."""
    for path in folder.glob(f"{PREFIX}*"):
        yield path, TemporaryName.parse(path.name)


def abandoned(path: Path, writer: str = "", stale: float = STALE_SECONDS) -> bool:
    """Return whether the writer of a file is dead: the one in its name, or the one named.

    Where that cannot be told, whether nothing was written for `stale` seconds. Raises OSError if the file is gone.
    """
    quiet = time.time() - path.lstat().st_mtime
    name = TemporaryName.parse(writer or path.name)
    if name is None:
        return quiet > stale
    if name.pid == NOBODY:
        return True
    home, here = name.home, _here()
    started = _start(name.pid) if name.start else None
    if home.boot and home.boot == here.boot:
        if home.namespace == here.namespace and started is not None:
            return started != name.start
        return quiet > stale or _free(path)
    if home.host == here.host and home.boot:  # this machine has been started again, or another one has its name
        return quiet > min(stale, time.clock_gettime(time.CLOCK_BOOTTIME))
    if home.host == here.host and started is not None:
        return started != name.start and quiet > min(stale, QUIET_SECONDS)
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
        if os.fstat(descriptor).st_size == 0:  # it may be about to be locked, which this one's lock would prevent
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS lets no reader lock alone
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
