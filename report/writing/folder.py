"""The folder of a report: built beside its place, then put there whole; only a report is ever replaced."""

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cache import store
from cache.store import temporary_names
from cache.store.lacking import AT_FDCWD
from cache.store.temporary_names import TemporaryName
from common.errors import CacheError, ConfigError
from common.paths import exists, is_folder, names

MARK = "report.json"  # what says that a folder is a report, by CONTENT: others write files of that name, too
CONTENT = json.dumps({"format": "melcache report", "version": 1}) + "\n"
RENAME_EXCHANGE = 2  # linux/fs.h


class Folder:
    """A folder that is being written; file names are ours, with / for one of a folder in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file."""
        path, content = self.path / name, data.encode() if isinstance(data, str) else data
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self.bytes += len(content)


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Folder]:
    """Yield a folder to write, which becomes `target` when the block ends; if it fails, `target` stays as it was.

    Raises ConfigError for a target that is something else than a report or an empty folder, and for a disk that is
    full or may not be written to.
    """
    check(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        private = target.parent / str(TemporaryName.new())
        try:
            private.mkdir(mode=0o700)
            new = private / "new"  # one deeper: only its owner may read the temporary folder itself
            new.mkdir()
            yield Folder(new)
            (new / MARK).write_text(CONTENT)
            check(target)
            _put(new, target)
        finally:
            shutil.rmtree(private, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write the report {target}: {error.strerror or error}; {store.remedy(error)} and run the same "
            "command again"
        ) from error


def check(target: Path) -> None:
    """Raise ConfigError where a report would replace something else."""
    if not exists(target):
        return
    if target.is_symlink() or not is_folder(target):
        raise ConfigError(f"--out {target} is a file or a link: name a new folder, or one with a report in it")
    if names(target) and not _is_report(target):
        raise ConfigError(f"--out {target} holds something else than a report: name a new folder, or empty this one")


def _sweep(parent: Path) -> None:
    """Remove the folders that killed reports left."""
    for path, _ in temporary_names.in_folder(parent):
        with contextlib.suppress(OSError):  # another was faster
            if is_folder(path) and not path.is_symlink() and temporary_names.abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_report(folder: Path) -> bool:
    try:
        return store.read_regular(folder / MARK, 2 * len(CONTENT)) == CONTENT.encode()
    except (OSError, CacheError):
        return False


def _put(new: Path, target: Path) -> None:
    """Give a folder the name `target`; what had it takes the other name."""
    if not exists(target):
        new.rename(target)
        return
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    both = (AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(target), RENAME_EXCHANGE)
    if renameat2 is not None and renameat2(*both) == 0:
        return
    target.rename(new.parent / "old")  # a file system that cannot exchange: a kill here leaves the old one beside
    new.rename(target)
