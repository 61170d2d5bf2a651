"""What workers do: copies of one command, and how far they are."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TAIL = 500  # characters of what a worker said last
MOST = 1 << 16  # bytes of a log that are read for them


@dataclass(frozen=True)
class Work:
    """Copies of `python -m module words`, which divide what is to do by claims (cache.store.claims) in a shared folder.

    `todo` of their `unit`s, such as shards, are missing; `look` says how many have come since. `folder` holds what they
    make. `finish` are the words with which one of them, alone and at the end, does all that is left.
    """

    module: str
    words: tuple[str, ...]
    finish: tuple[str, ...]
    folder: Path
    unit: str
    todo: int
    look: Callable[[], int]


def command(module: str, words: tuple[str, ...]) -> list[str]:
    """Return the command line of a worker under the Python that runs this."""
    return [sys.executable, "-m", module, *words]


def python_path() -> str:
    """Return a PYTHONPATH under which a worker finds melcache, be it installed or a checkout."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def last_line(log: Path) -> str:
    """Return what a worker said last, "" where it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST))
            return file.read().decode(errors="replace").strip().rpartition("\n")[2][:TAIL]
    except OSError:
        return ""
