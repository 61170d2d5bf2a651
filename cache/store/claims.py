"""Who computes which range, or trains which run: files that save several processes from doing the same work.

A claim decides nothing: finished files are the only truth, and who ignores a claim computes the same bytes. It is
dropped when its work is done. One whose process has ended on this machine is void at once (its pid, its start, or the
lock it held); one of another machine when its file has not changed for QUIET seconds of the watcher's own clock, since
a live one is touched every BEAT seconds: no two clocks need to agree. Who takes a void one over holds a claim to do
so meanwhile: of several that find it void one alone removes it, and never the claim that has come in its place. That
needs neither locks nor links.
"""

import contextlib
import math
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cache import store
from cache.store import lacking
from cache.store.temporary_names import TemporaryName, abandoned
from common.errors import CacheError, DeniedError
from common.paths import names

PREFIX = ".claim-"
BEAT, QUIET = 10.0, 60.0
LONGEST = 400  # bytes of a claim
OVER = ".over"  # ends the name of a claim to remove a void one
State = tuple[int, int]  # of a file: which one it is, and when it was touched


class Claims:
    """This process's claims in a folder, and what it sees of others'.  In a `with` block they are kept alive."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, str(TemporaryName.new())
        self._held: dict[Path, int] = {}
        self._seen: dict[Path, tuple[State, float]] = {}  # what a file was, since when
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._beating.join()
        for path in list(self._held):
            self._drop(path)

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[bool]:
        """Claim work of that name in the block: whether it is this process's.

        A folder that takes no claim refuses none.
        """
        path = self._folder / f"{PREFIX}{name}"
        mine = self._take(path)
        try:
            yield mine
        finally:
            if mine:
                self._drop(path)

    def held(self, table: str, index: int) -> contextlib.AbstractContextManager[bool]:
        """Claim a range of a table in the block, as `named` does."""
        return self.named(f"{table}-{index:05d}")

    def _take(self, path: Path) -> bool:
        for _ in range(2):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                if not self._void(path) or not self._removed(path):
                    return False
            except OSError:  # full, or not ours to write to: the shard itself will say so
                return True
            else:
                with self._lock:
                    self._held[path] = descriptor
                with contextlib.suppress(OSError):
                    lacking.lock(descriptor, None)  # before its first byte, by which others know that it is held
                    os.write(descriptor, self._name.encode())
                return True
        return True  # it cannot be removed

    def _void(self, path: Path) -> bool:
        """Whether the process of a claim has ended, or has not been heard of for long."""
        now = time.monotonic()
        try:
            as_it_is = _state(path)
            was, since = self._seen.get(path, (as_it_is, now))
            self._seen[path] = (as_it_is, since if was == as_it_is else now)
        except OSError:  # dropped meanwhile
            return True
        return void(path) or now - self._seen[path][1] > QUIET

    def _removed(self, path: Path) -> bool:
        """Remove a void claim if it is still the one that was seen; return False where another process is at that."""
        with self.named(f"{path.name.removeprefix(PREFIX)}{OVER}") as mine, contextlib.suppress(OSError):
            if mine and path in self._seen and _state(path) == self._seen[path][0]:
                path.unlink()
        return mine

    def _drop(self, path: Path) -> None:
        with self._lock:  # not while it is touched: a number may soon be another file's
            descriptor = self._held.pop(path, None)
        if descriptor is None:  # computed without
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):  # else another has taken it over
                path.unlink()
        os.close(descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with self._lock:
                for descriptor in self._held.values():
                    with contextlib.suppress(OSError):
                        os.utime(descriptor)


def void(path: Path, otherwise: float = math.inf) -> bool:
    """Whether a claim's process is known to have ended, or the file is no claim.

    Where that cannot be told, whether the file was last touched longer ago than `otherwise` seconds, by this clock.
    """
    try:
        return not stat.S_ISREG(path.lstat().st_mode) or abandoned(path, _holder(path), otherwise)
    except DeniedError:  # another user's, who may well be at work
        return False
    except (OSError, CacheError):
        return True


def _holder(path: Path) -> str:
    return store.read_regular(path, LONGEST).decode("ascii", "replace")


def _state(path: Path) -> State:
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns


def clear(folder: Path) -> None:
    """Remove the claims of a folder whose every shard is there: nobody has work left.

    Those stay whose process is seen to live: it drops them itself, or is at other parts.
    """
    for name in names(folder):
        if name.startswith(PREFIX) and void(folder / name, -math.inf):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
