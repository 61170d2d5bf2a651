"""File systems that lack something: a cache is made, taken and exported there all the same, with one warning.

What they say in place of EOPNOTSUPP is from bug reports about CIFS, VirtualBox, FUSE, 9p, Android, encfs and NFS. A
disk that fails or is full says EIO and ENOSPC: that stays an error, of one line.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cache.sharing import tar
from cache.sharing.pull import pull
from cache.store import lacking
from common.errors import CacheError
from torture.tiny_cache import Result, build, contents, fast_disk, no_gate, partial, unlike, wrong

SAID = {
    "fsync": (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, 524),
    "fsync of folders": (
        errno.EINVAL,
        errno.EBADF,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        524,
    ),
    "links": (
        errno.EPERM,
        errno.EACCES,
        errno.EXDEV,
        errno.EMLINK,
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EIO,
        524,
    ),
    "locks": (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF),
}
FAILURES = {"fsync": (errno.EIO, errno.ENOSPC), "fsync of folders": (errno.EIO, errno.ENOSPC), "links": (errno.ENOSPC,)}
USES = {  # of SAID; building here takes no lock, and what is pulled replaces what is there
    "extract": {"fsync", "fsync of folders", "links"},
    "pull": {"fsync", "fsync of folders", "locks"},
    "export, import": SAID.keys(),
}
Work = Callable[[Path], str]  # makes a cache in a folder, returns its id


@contextmanager
def without(lacks: dict[str, int]) -> Iterator[list[str]]:
    """Let calls fail as on a file system that lacks some of SAID (what: errno); yields what is said of it."""
    real, said = (os.fsync, os.link, fcntl.flock, lacking.say), []

    def fail(what: str) -> None:
        if what in lacks:
            raise OSError(lacks[what], os.strerror(lacks[what]))

    def fsync(descriptor: int) -> None:
        fail("fsync of folders" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync")

    def link(*names: Any, **more: Any) -> None:
        fail("links")
        real[1](*names, **more)

    def flock(descriptor: int, operation: int) -> None:
        fail("locks")
        real[2](descriptor, operation)

    told, lacking._told = lacking._told, set()
    os.fsync, os.link, fcntl.flock, lacking.say = fsync, link, flock, said.append
    try:
        yield said
    finally:
        os.fsync, os.link, fcntl.flock, lacking.say = real
        lacking._told = told


def run(scratch: Path, seed: int) -> Result:
    """Try each thing that may be lacking, all of them at once, and the same calls on a disk that fails."""
    result, whole = Result("a file system that lacks something"), scratch / "whole"
    with fast_disk():
        known = {build(whole, seed): contents(whole)}
    works = _works(scratch, whole, seed)
    with no_gate():
        for name, work in works.items():
            used = {what: errors for what, errors in SAID.items() if what in USES[name]}
            everything = {what: errors[0] for what, errors in used.items()}
            for lack in [everything, *({what: error} for what, errors in used.items() for error in errors)]:
                _survive(result, name, work, scratch / "lacking", lack, known)
            for what in FAILURES.keys() & used:
                for error in FAILURES[what]:
                    _refuse(result, name, work, scratch / "failing", {what: error}, known)
    return result


def _works(scratch: Path, whole: Path, seed: int) -> dict[str, Work]:
    def exported(folder: Path) -> str:
        file = scratch / "whole.tar"
        file.unlink(missing_ok=True)
        tar.export(whole, file)
        return tar.take(file, folder).id

    return {
        "extract": lambda folder: build(folder, seed),
        "pull": lambda folder: pull(folder, str(whole)).id,
        "export, import": exported,
    }


def _survive(result: Result, name: str, work: Work, folder: Path, lacks: dict[str, int], known: dict[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with without(lacks) as said:
        try:
            problem = "" if work(folder) in known else "ended with another id"
        except (CacheError, OSError) as error:
            problem = f"said {error}"
    result.case()
    result.count("survived")
    if not problem and len(said) != len(lacks):
        problem = f"warned {len(said)} times"
    if not problem and partial(folder):
        problem = f"left {partial(folder)}"
    if problem := problem or unlike(folder, known):
        result.fail(f"{name} without {_named(lacks)}: {problem}")


def _refuse(result: Result, name: str, work: Work, folder: Path, fails: dict[str, int], known: dict[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with without(fails):
        try:
            problem = f"ended as if all were well, with {work(folder)[:12]}"
        except CacheError as error:
            problem = "" if "\n" not in str(error) else f"said {error}"
        except OSError as error:
            problem = f"raised {error!r}"
    result.case()
    result.count("refused in a line")
    if problem := problem or wrong(folder, known):
        result.fail(f"{name} with {_named(fails)}: {problem}")


def _named(errors: dict[str, int]) -> str:
    return ", ".join(f"{what} ({errno.errorcode.get(number, number)})" for what, number in errors.items())
