"""Work in processes of its own: what it took, which files it opened, and whether it lived."""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY = 1 << 30  # of addresses that work may take beside what its process has
SECONDS = 60  # of a processor
NEW_MOUNTS, NEW_USERS, NEW_PIDS = 0x20000, 0x10000000, 0x20000000  # of unshare
REC_PRIVATE = (1 << 14) | (1 << 18)  # MS_REC | MS_PRIVATE
OPENED, READ = 0x20, 0x1  # inotify's IN_OPEN and IN_ACCESS


def child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process that ends without cleaning up; return its pid."""
    pid = os.fork()
    if pid == 0:
        gc.disable()  # it would write to every page that the child shares with this process
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def in_a_namespace(work: Callable[[], object]) -> None:
    """Do work in a child that has a PID namespace and a /proc of its own, as in a container; for a forked process.

    Where nobody may make one, the work is done here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_PIDS | NEW_MOUNTS) and libc.unshare(NEW_USERS | NEW_PIDS | NEW_MOUNTS):
        work()
        return

    def apart() -> None:
        libc.mount(b"none", b"/", None, REC_PRIVATE, None)
        if libc.mount(b"proc", b"/proc", b"proc", 0, None):
            raise OSError(ctypes.get_errno(), "cannot mount /proc")
        work()

    _, status = os.waitpid(child(apart), 0)
    if status:
        raise ChildProcessError(f"status {status} in a namespace")


@contextmanager
def doomed(work: Callable[[], object]) -> Iterator[int]:
    """Do work in a child that is killed at the end of the block, however that comes; yield its pid."""
    pid = child(work)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)  # it may have ended, but nobody has asked for it yet
        os.waitpid(pid, 0)


def until(happened: Callable[[], object], what: str, seconds: float = 300.0, *, pause: float = 0.01) -> None:
    """Wait for something that another process or thread does.  Raises TimeoutError where it never does."""
    ends = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)


@dataclass(frozen=True)
class Report:
    """What a child did.  `status` is 0 if it ended well; `seconds` are of a processor; `memory` is bytes."""

    status: int
    seconds: float
    memory: int
    opened: tuple[str, ...]
    answer: Any


def apart(work: Callable[[], Any], scratch: Path) -> Report:
    """Run work in a child with limits and return what it did; its answer must be JSON."""
    path = scratch / "report.json"
    path.unlink(missing_ok=True)
    pid = child(lambda: _report(work, path))
    _, status, used = os.wait4(pid, 0)
    found = json.loads(path.read_text()) if status == 0 else {"memory": 0, "opened": [], "answer": None}
    seconds = used.ru_utime + used.ru_stime
    return Report(status, seconds, found["memory"], tuple(found["opened"]), found["answer"])


def limit() -> None:
    """Limit this process: a bomb must not take the machine along."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _report(work: Callable[[], Any], path: Path) -> None:
    limit()
    opened: list[str] = []
    real, before = os.open, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def watched(name: Any, *rest: Any, **more: Any) -> int:
        descriptor = real(name, *rest, **more)
        opened.append(os.fspath(name))  # and not what was refused
        return descriptor

    os.open = watched
    answer = work()
    os.open = real
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    path.write_text(json.dumps({"memory": memory, "opened": sorted(set(opened)), "answer": answer}))


def survivors(cases: int, work: Callable[[int], str], at_a_time: int = 500) -> Iterator[tuple[int, str]]:
    """Yield (case, answer) of `work` for the cases 0, 1, ...; "" where the child died, which others do not suffer for.

    An answer is one line.
    """
    begin = 0
    while begin < cases:
        reads, writes = os.pipe()
        end = min(cases, begin + at_a_time)
        pid = child(lambda begin=begin, end=end, writes=writes: _answers(range(begin, end), work, writes))
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            lines = pipe.read().decode().splitlines()
        _, status = os.waitpid(pid, 0)
        yield from enumerate(lines, begin)
        begin += len(lines)
        if status or begin < end:
            yield begin, ""
            begin += 1


def _answers(cases: range, work: Callable[[int], str], pipe: int) -> None:
    limit()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints what it thinks of every file
    for case in cases:
        os.write(pipe, f"{work(case)}\n".encode())


@contextmanager
def guarded(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether any process has opened or read a file since."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(path), OPENED | READ) < 0:
        raise OSError(ctypes.get_errno(), f"cannot watch {path}")

    def touched() -> bool:
        if not select.select([descriptor], [], [], 0)[0]:
            return False
        os.read(descriptor, 1 << 16)
        return True

    try:
        yield touched
    finally:
        os.close(descriptor)
