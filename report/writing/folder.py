"""The folder of a report: built beside its place, then put there whole; only a report is ever replaced."""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cache import store
from cache.store.lacking import AT_FDCWD
from common.errors import CacheError, ConfigError
from common.paths import exists, is_folder, names, status

MARK = "report.json"  # what says that a folder is a report, by CONTENT: others write files of that name, too
CONTENT = json.dumps({"format": "melcache report", "version": 1}) + "\n"
PREFIX = ".partial-report-"
STALE_SECONDS = 24 * 3600
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
        private = Path(tempfile.mkdtemp(prefix=PREFIX, dir=target.parent))
        try:
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
    """Remove what killed reports left a day ago."""
    for name in (name for name in names(parent) if name.startswith(PREFIX)):
        left = status(parent / name)
        if left is not None and time.time() - left.st_mtime > STALE_SECONDS:
            shutil.rmtree(parent / name, ignore_errors=True)


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
