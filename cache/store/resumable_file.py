"""A file that arrives in blocks: continued after a kill, and given its name only when it is whole.

Until then it lies under a temporary name of cache.store's kind that ends in the content's hash, by which the next
writer finds what a dead one left.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cache import store
from cache.store import lacking, temporary_names
from cache.store.temporary_names import TemporaryName
from common.errors import CacheError

BLOCK = 2 << 20  # bytes read at a time: hashed and written while a core still has them, 2.4 times as fast as 8 MB
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class WriteError(CacheError):
    """The disk here is full, read-only or failing."""


class Growing:
    """The bytes so far of a file that shall be `path`, `content` being their sha256 (hex) when it is whole.

    A context: without `place`, what has arrived stays for the next writer, unless `keep` is false.  Every method raises
    WriteError on a full, read-only or failing disk.
    """

    def __init__(self, path: Path, content: str, *, keep: bool = True) -> None:
        self._path, self._content, self._placed, self._keep = path, content, False, keep
        self._name = TemporaryName.new(content)
        self._temporary = path.with_name(str(self._name))
        self.size = 0

    def __enter__(self) -> Self:
        with self._told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            adopted = next((found for path in self._left() if (found := self._adopt(path)) is not None), None)
            self._descriptor = self._new() if adopted is None else adopted
            self.size = os.fstat(self._descriptor).st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._placed:
            return
        with contextlib.suppress(OSError):
            if self.size == 0 or not self._keep:
                self._temporary.unlink()
            else:
                self._temporary.rename(self._path.with_name(str(self._name.left())))

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes that are there already."""
        position = 0
        while position < self.size:
            with self._told():
                block = os.pread(self._descriptor, min(BLOCK, self.size - position), position)
            if not block:
                break
            position += len(block)
            yield block
        self.size = position

    def write(self, block: bytes) -> None:
        """Append a block."""
        rest = memoryview(block)
        with self._told():
            while rest:
                count = os.pwrite(self._descriptor, rest, self.size)  # a write may be short
                rest, self.size = rest[count:], self.size + count

    def clear(self) -> None:
        """Begin anew."""
        with self._told():
            os.ftruncate(self._descriptor, 0)
        self.size = 0

    def place(self, *, replace: bool) -> bool:
        """Make the file durable under its name.  With `replace=False` a file there already wins: False."""
        with self._told():
            lacking.sync(self._descriptor)
            placed = store.place(self._temporary, self._path, replace=replace)
            self._placed = True
            lacking.sync_directory(self._path.parent)
        return placed

    def _new(self) -> int:
        descriptor = os.open(self._temporary, FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        lacking.lock(descriptor, None, wait=True)  # before its first byte
        return descriptor

    def _left(self) -> Iterator[Path]:
        """Yield what writers of this content have left, or are writing."""
        for path, name in temporary_names.in_folder(self._path.parent) if self._keep else ():
            if name is not None and name.continues(self._content):
                yield path

    def _adopt(self, left: Path) -> int | None:
        """Return the descriptor of what a dead writer has left, under our name; None if it is not to be had."""
        with contextlib.suppress(OSError):  # gone, another was faster, or it is a colleague's
            if not stat.S_ISREG(left.lstat().st_mode) or not temporary_names.abandoned(left):
                return None
            descriptor = os.open(left, FLAGS)
            try:
                if lacking.lock(descriptor, None):
                    left.rename(self._temporary)
                    return descriptor
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)
        return None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = "What has arrived is kept" if self._keep else "Nothing is left of it"
            raise WriteError(
                f"cannot write {self._path}: {error.strerror or error}. {kept}; {store.remedy(error)} and run the "
                "same command again"
            ) from error
