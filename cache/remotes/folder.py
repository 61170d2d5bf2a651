"""A directory as a remote: a shared disk, or a folder on this machine."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from cache import manifests, store
from cache.remotes.base import CARD, Conditional, MovedError, Publication, Source, State, counted
from cache.remotes.patience import Came
from cache.store import lacking, temporary_names
from cache.store.resumable_file import BLOCK, Growing, WriteError
from cache.store.temporary_names import TemporaryName
from common.errors import CacheError
from common.paths import exists, names

LOCK = f"{manifests.COPIES}/.publishing"
LOCK_WAIT = 30.0  # seconds; it is held for a comparison and a rename
LOCK_LOST = 600.0  # seconds after which the lock of another machine counts as left behind
LOCK_EMPTY = 5.0  # seconds after which one that names nobody does: its holder died before it had written that
LOCK_BYTES = 4096
PIECE = 1 << 18  # bytes read at a time, so that a slow disk of a network is seen to go on


class Folder(Conditional):
    """A cache directory that others read and push to."""

    threads = min(8, len(os.sched_getaffinity(0)))
    block_size = BLOCK
    path: Path

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def reason(self, error: BaseException) -> str:
        """Return the system's words."""
        return (
            f"{getattr(error, 'strerror', None) or error}. Check the disk and its permissions, and run the "
            "same command again"
        )

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder against `melcache gc`, with other pushes."""
        return store.together(self.path)

    def state(self) -> State:
        """Return what is published now; the version is the hash of the manifest."""
        data = self.read(manifests.NAME, manifests.MAX_BYTES)
        return State(data, "" if data is None else hashlib.sha256(data).hexdigest())

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file, None where there is none."""

        def get() -> bytes | None:
            return store.read_regular(self.path / name, limit) if exists(self.path / name) else None

        return self.ask("read", get)

    def listing(self) -> dict[str, int]:
        """Return the sizes of all regular files by name."""
        return self.stream("list", lambda came: counted(self._files(), came))

    def block(self, name: str, start: int, size: int) -> bytes:
        """Return exactly `size` bytes of a file from `start`."""
        block = self.stream("read", lambda came: b"".join(self._pieces(name, start, start + size, came)))
        if len(block) != size:
            raise CacheError(f"{self.where(name)} ends inside what its manifest lists: damaged or still being copied")
        return block

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all."""
        try:
            with Growing(self.path / name, source.sha256) as file:
                try:
                    file.clear()
                    for block in source.blocks(self.block_size):
                        file.write(block)
                    return file.place(replace=mend)
                except BaseException:
                    file.clear()  # else it stays for a writer that would continue it
                    raise
        except WriteError as error:  # of the disk there, which tells nothing of the one here
            raise CacheError(str(error)) from error

    def publish(self, what: Publication, version: str) -> None:
        """Publish a manifest under a lock, if what is published still has the version."""
        self._make(self.path / manifests.COPIES)
        store.sweep(self.path)
        store.publish(self.path / manifests.copy_of(what.id), what.manifest, replace=False)
        if what.signature is not None:
            store.publish(self.path / manifests.signature_of(what.id), what.signature, replace=True)
        with self._turn():
            if self.state().version != version:
                raise MovedError(f"{self.url} has changed")
            store.publish(self.path / manifests.NAME, what.manifest, replace=True)
        if what.card is not None:
            store.publish(self.path / CARD, what.card, replace=True)

    def versions(self, prefix: str, most: int) -> dict[str, str]:
        """Return what tells whether a file is another by now, of the files whose names begin so."""
        folder, _, begins = prefix.rpartition("/")

        def found() -> Iterator[tuple[str, str]]:
            for name in filter(lambda name: name.startswith(begins), names(self.path / folder)):
                with contextlib.suppress(FileNotFoundError):
                    there = (self.path / folder / name).lstat()
                    if not stat.S_ISDIR(there.st_mode):
                        yield f"{folder}/{name}", _version(there)

        return self.stream("list", lambda came: counted(found(), came, most))

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Write a small file in place of that version: who moves that aside is the one that may."""
        path = self.path / name
        self._make(path.parent)
        return self.ask("write to", lambda: self._swap(path, data, version))

    def _swap(self, path: Path, data: bytes, version: str) -> str | None:
        new, old = (path.parent / str(TemporaryName.new()) for _ in range(2))
        store.publish(new, data, replace=False)
        found = _version(new.lstat())
        try:
            if version:
                path.rename(old)
                if _version(old.lstat()) != version:  # another's by now, which it gets back
                    store.place(old, path, replace=False)
                    return None
            return found if store.place(new, path, replace=False) else None
        except FileNotFoundError:
            return None
        finally:
            for left in (new, old):
                left.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a small file, if it is there."""
        self.ask("write to", lambda: (self.path / name).unlink(missing_ok=True))

    def tidy(self, folder: str) -> None:
        """Remove a folder that holds nothing but temporary files of the dead."""
        store.sweep(self.path / folder)
        with contextlib.suppress(OSError):  # it holds more, or there is none
            (self.path / folder).rmdir()

    def _pieces(self, name: str, start: int, end: int, came: Came) -> Iterator[bytes]:
        with store.open_regular(self.path / name) as descriptor:
            while start < end and (piece := os.pread(descriptor, min(PIECE, end - start), start)):
                start += len(piece)
                came(len(piece))
                yield piece

    def _files(self) -> Iterator[tuple[str, int]]:
        for folder, prefix in ((self.path, ""), (self.path / manifests.COPIES, f"{manifests.COPIES}/")):
            names = os.listdir(folder) if folder.is_dir() else []
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # another push's temporary file
                    found = (folder / name).lstat()
                    if stat.S_ISREG(found.st_mode):
                        yield prefix + name, found.st_size

    def _make(self, folder: Path) -> None:
        def make() -> os.stat_result:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True)
                with contextlib.suppress(OSError):  # a group that shares the folder shares this one too
                    shutil.copymode(self.path, folder)
            return folder.lstat()  # which someone may have removed meanwhile

        if not stat.S_ISDIR(self.ask("write to", make).st_mode):
            raise CacheError(f"{folder} is not a directory; remove it")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        lock, deadline = self.path / LOCK, time.monotonic() + LOCK_WAIT
        while (descriptor := self.ask("publish in", lambda: _taken(lock))) is None:
            if self._break(lock):
                continue
            if time.monotonic() > deadline:
                raise CacheError(
                    f"another push holds {lock} since {LOCK_WAIT:g} s. Push again later: the lock of a process that "
                    f"died here breaks at once, of one on another machine {LOCK_LOST / 60:g} min after it was taken"
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            if _is_at(lock, descriptor):
                lock.unlink(missing_ok=True)
            os.close(descriptor)

    def _break(self, lock: Path) -> bool:
        """Remove the lock of a dead process; return whether it was one's.

        Those that would do so take turns, so that none removes a new one.
        """
        with contextlib.suppress(OSError, CacheError):  # gone meanwhile, or flock is not to be had here
            descriptor = os.open(lock.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                with store.open_regular(lock) as held:
                    holder = os.pread(held, LOCK_BYTES, 0).decode(errors="replace")
                    dead = temporary_names.abandoned(lock, holder, LOCK_LOST if holder else LOCK_EMPTY)
                    if dead and _is_at(lock, held):  # else another machine, which flock may not reach, was faster
                        lock.unlink()
                        return True
            finally:
                os.close(descriptor)
        return False


def _taken(lock: Path) -> int | None:
    """Return the descriptor of the lock, made and held; None where it is another's.

    O_EXCL also holds where a file system has no links.
    """
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None
    try:
        lacking.lock(descriptor, None, wait=True)
        os.write(descriptor, str(TemporaryName.new()).encode())
        if _is_at(lock, descriptor):  # and was not taken for one that names nobody
            return descriptor
    except BaseException:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _version(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_mtime_ns}"


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a file is still the one that was opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False
