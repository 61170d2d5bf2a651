"""Failing disks: the k-th call of each kind fails with each error, for every k until nothing fails any more."""

import errno
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from cache.sharing.pull import pull
from common.errors import MelcacheError
from torture.tiny_cache import Result, build, contents, fast_disk, no_gate, partial, unlike, wrong

ERRORS = tuple("ENOSPC EIO EROFS".split())
MORE = (*ERRORS, "EINTR", "EDQUOT", "EACCES", "ENOLCK", "EFBIG", "ESTALE")
SHORT = "short write"
WRITES = tuple("open write fsync link replace unlink mkdir".split())
PULLS = tuple("open pwrite fsync link rename unlink mkdir ftruncate".split())
READS = tuple("open read preadv".split())
BY_DESCRIPTOR = ("write", "pwrite", "fsync", "ftruncate", "read", "preadv")
SIGNAL_SECONDS = 0.0005
Work = Callable[[Path], str]  # makes, takes or reads a cache in a folder, returns its id


@contextmanager
def failing(call: str, position: int, error: str, root: Path, *, reading: bool = False) -> Iterator[list[str]]:
    """Let the call at `position` (from 0) of a kind on files under `root` fail; yields the list of calls seen."""
    real, seen = getattr(os, call), []

    def concerns(target: Any, *rest: Any) -> bool:
        if isinstance(target, int):
            return call in BY_DESCRIPTOR
        inside = os.fspath(target).startswith(str(root))
        return inside and (call != "open" or reading or bool(rest[0] & (os.O_WRONLY | os.O_RDWR)))

    def replaced(target: Any, *rest: Any, **more: Any) -> Any:
        if not concerns(target, *rest):
            return real(target, *rest, **more)
        seen.append(call)
        if len(seen) - 1 != position:
            return real(target, *rest, **more)
        if error == SHORT:
            return real(target, memoryview(rest[0])[: max(1, len(rest[0]) // 3)], *rest[1:])
        number = getattr(errno, error)
        raise OSError(number, os.strerror(number), str(target))

    setattr(os, call, replaced)
    try:
        yield seen
    finally:
        setattr(os, call, real)


def run(scratch: Path, errors: int, seed: int) -> Result:
    """Fail extraction, pull and reading: one clear line, nothing wrong on disk, no partial file, and resumable.

    `errors` says how many of MORE.
    """
    result, whole = Result("failing disk"), scratch / "whole"
    with fast_disk():
        known = {build(whole, seed): contents(whole)}
    folder, extract = scratch / "failing", lambda folder: build(folder, seed)
    _signals(result, folder, extract, known)
    with fast_disk(), no_gate():
        for call, error in [*itertools.product(WRITES, MORE[:errors]), ("write", SHORT)]:
            _every(result, call, error, folder, extract, known)
        for call, error in [*itertools.product(PULLS, ("ENOSPC", "EIO")), ("pwrite", SHORT)]:
            _every(result, call, error, folder, lambda folder: pull(folder, str(whole)).id, known, resumes=True)
        for call, error in itertools.product(READS, ("EIO", "EACCES", "EINTR")):
            _every_read(result, call, error, whole, known)
    return result


def _every(
    result: Result, call: str, error: str, folder: Path, work: Work, known: dict[str, Any], *, resumes: bool = False
) -> None:
    """Try a fault at every position.  Work that `resumes` may leave what has arrived, for the next one."""
    for position in itertools.count():
        shutil.rmtree(folder, ignore_errors=True)
        fault = failing(call, position, error, folder)
        calls, problem = _try(result, fault, folder, work, known)
        if not problem and partial(folder) and not resumes:
            problem = f"left {partial(folder)}"
        if not problem and (work(folder) not in known or unlike(folder, known)):
            problem = "resumed to another cache"
        if not problem and partial(folder):
            problem = f"left {partial(folder)} when it had resumed"
        if problem:
            result.fail(f"{error} at {call} {position}: {problem}")
        if calls <= position:
            return


def _every_read(result: Result, call: str, error: str, whole: Path, known: dict[str, Any]) -> None:
    for position in itertools.count():
        fault = failing(call, position, error, whole, reading=True)
        calls, problem = _try(result, fault, whole, lambda folder: _read(folder, known), known)
        if problem:
            result.fail(f"{error} at {call} {position} of reading: {problem}")
        if calls <= position:
            return


def _read(folder: Path, known: dict[str, Any]) -> str:
    identity, expected = next(iter(known.items()))
    found = contents(folder)
    return identity if all((found[name] == expected[name]).all() for name in expected) else "other numbers"


def _signals(result: Result, folder: Path, work: Work, known: dict[str, Any]) -> None:
    """Let real signals interrupt the calls all the time."""
    before = signal.signal(signal.SIGALRM, lambda *_: result.count("signals"))
    signal.setitimer(signal.ITIMER_REAL, SIGNAL_SECONDS, SIGNAL_SECONDS)
    try:
        identity = work(folder)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result.case()
    if identity not in known or unlike(folder, known):
        result.fail("interrupted by signals it makes another cache")


def _try(
    result: Result, fault: AbstractContextManager[list[str]], folder: Path, work: Work, known: dict[str, Any]
) -> tuple[int, str]:
    """Try one fault; return how many calls of its kind there were, and what is wrong."""
    problem, message = "", None
    with fault as seen:
        try:
            if work(folder) not in known:
                problem = "ended with another id"
        except MelcacheError as error:
            message = str(error)
        except OSError as error:
            problem = f"raised {error!r}"
        calls = len(seen)
    result.case()
    result.count("survived" if message is None else "refused in a line")
    if message is not None and ("\n" in message or not message.strip()):
        problem = f"said {message!r}"
    return calls, problem or (unlike if message is None else wrong)(folder, known)
