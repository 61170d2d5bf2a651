"""What workers do: copies of one command, and how far they are."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.output import Progress, say

ROOT = Path(__file__).parent.parent
TAIL = 500  # characters of what a worker said last
MOST = 1 << 16  # bytes of a log that are read for them


@dataclass(frozen=True)
class Work:
    """Copies of `python -m module words`, which divide what is to do by claims (cache.store.claims) in a shared folder.

    `todo` of their `unit`s, such as shards, are missing; `look` says how many have come since. `folder` holds what they
    make. `finish` are the words with which one of them, alone and at the end, does all that is left. `alone` is set
    while workers go on whatever becomes of the process that has started them.
    """

    module: str
    words: tuple[str, ...]
    finish: tuple[str, ...]
    folder: Path
    unit: str
    todo: int
    look: Callable[[], int]
    alone: threading.Event = field(default_factory=threading.Event, compare=False)


class Coming(Progress):
    """How much of some work has come, as workers do it; `look` looks, and so does the end of the block."""

    def __init__(self, work: Work, label: str) -> None:
        super().__init__(work.todo, label, work.unit)
        self._work, self._shown = work, 0

    def look(self) -> None:
        """Show what has come since the last look."""
        now = min(self._work.todo, self._work.look())
        self.advance(now - self._shown)
        self._shown = now

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self.look()
        super().__exit__(*raised)


def tell_failed(place: int, count: int, status: int | str, said: str) -> None:
    """Say that worker `place`, from 0, of `count` has failed, and what it said last."""
    say(f"warning: worker {place + 1} of {count} ended with status {status}: {said}")


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
