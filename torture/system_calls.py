"""The system calls that change a folder, recorded through the functions of `os` that melcache writes with."""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RENAMES = ("link", "replace", "rename", "unlink")
CALLS = ("open", "write", "pwrite", "ftruncate", "fsync", "close", *RENAMES)


@dataclass
class Log:
    """Operations in order, (kind, arguments...), on inodes and on the names of the files directly in `root`."""

    root: Path
    operations: list[tuple[Any, ...]] = field(default_factory=list)

    def promise(self, path: Path) -> None:
        """Note that a file is promised to be there, as it is now, from now on."""
        self.operations.append(("promise", path.name))

    def release(self) -> None:
        """Note that nothing is promised any more."""
        self.operations.append(("release",))


@contextlib.contextmanager
def recorded(root: Path) -> Iterator[Log]:
    """Record what this process, all its threads, does to the files directly in `root`.

    fsync is recorded and not done: what it would make durable is replayed, not tried.
    """
    recorder = _Recorder(root)
    real = {name: getattr(os, name) for name in CALLS}
    try:
        for name in CALLS:
            setattr(os, name, recorder.call(name, real[name]))
        yield recorder.log
    finally:
        for name, function in real.items():
            setattr(os, name, function)


class _Recorder:
    def __init__(self, root: Path) -> None:
        self.log = Log(root)
        self._lock = threading.RLock()  # a call and its note are one: threads must not overtake each other between
        self._names: dict[str, int] = {}
        self._opened: dict[int, int | str] = {}  # descriptor: inode, or "folder"
        self._counter = itertools.count(1)

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        noted = {name: getattr(self, f"_{name}") for name in CALLS if name not in RENAMES}

        def locked(*given: Any, **more: Any) -> Any:
            with self._lock:
                if name in noted:
                    return noted[name](real, *given, **more)
                done = real(*given, **more)
                self._name(name, *given)
                return done

        return locked

    def _name_of(self, path: Any) -> str | None:
        found = Path(os.fspath(path)) if not isinstance(path, int) else None
        return found.name if found is not None and found.parent == self.log.root else None

    def _open(self, real: Any, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        name = self._name_of(path)
        there = name is not None and os.path.lexists(path)
        descriptor = real(path, flags, *rest, **more)
        if not isinstance(path, int) and Path(os.fspath(path)) == self.log.root:
            self._opened[descriptor] = "folder"
        elif name is not None and flags & (os.O_WRONLY | os.O_RDWR):
            if not there:
                self._names[name] = next(self._counter)
                self.log.operations.append(("create", name, self._names[name]))
            elif flags & os.O_TRUNC:
                self.log.operations.append(("truncate", self._names[name], 0))
            self._opened[descriptor] = self._names[name]
        return descriptor

    def _write(self, real: Any, descriptor: int, data: Any) -> int:
        count = real(descriptor, data)
        self._note(descriptor, "write", bytes(data[:count]), None)
        return count

    def _pwrite(self, real: Any, descriptor: int, data: Any, offset: int) -> int:
        count = real(descriptor, data, offset)
        self._note(descriptor, "write", bytes(data[:count]), offset)
        return count

    def _ftruncate(self, real: Any, descriptor: int, length: int) -> None:
        real(descriptor, length)
        self._note(descriptor, "truncate", length)

    def _fsync(self, real: Any, descriptor: int) -> None:
        if descriptor in self._opened:
            self.log.operations.append(("fsync", self._opened[descriptor]))

    def _close(self, real: Any, descriptor: int) -> None:
        self._opened.pop(descriptor, None)
        real(descriptor)

    def _note(self, descriptor: int, kind: str, *given: Any) -> None:
        if isinstance(inode := self._opened.get(descriptor), int):
            self.log.operations.append((kind, inode, *given))

    def _name(self, kind: str, *paths: Any) -> None:
        names = [self._name_of(path) for path in paths]
        if names[0] is None:
            return
        self.log.operations.append((kind, *names))
        if kind != "unlink":
            self._names[names[1]] = self._names[names[0]]
        if kind != "link":
            del self._names[names[0]]
