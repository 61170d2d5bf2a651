"""A worker kept alive where an engine has put it: one that a signal ends is started again, a few times.

The standard library alone: Ray takes this module along to nodes that have no melcache on their path.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import IO

AGAIN = 3  # times that a worker is started again
# A worker ends with its parent (PR_SET_PDEATHSIG), be it that this one has ended before it could say so, and leaves to
# it the signal that tells of a preemption or a time limit. Not by preexec_fn: Ray's processes have threads.
BEGIN = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, int(signal.SIGTERM)); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); "
    "signal.signal(signal.SIGUSR2, signal.SIG_IGN); os.execv(sys.argv[2], sys.argv[2:])"
)


def with_parent(words: list[str]) -> list[str]:
    """Return the command line of a worker that does not outlive this process.

    Nor, as Linux has it, the thread that starts it: that one must wait for it.
    """
    return [sys.executable, "-c", BEGIN, str(os.getpid()), *words]


def keep(
    words: list[str],
    environment: dict[str, str],
    folder: str,
    out: IO[bytes] | None = None,
    before_again: Callable[[], object] = lambda: None,
) -> int:
    """Run a command in a folder until it ends by itself; return its status, as subprocess has it.

    `before_again` is called before it is started again.
    """
    for turn in range(AGAIN + 1):
        worker = subprocess.Popen(with_parent(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
                                  env={**os.environ, **environment})  # fmt: skip
        try:
            status = worker.wait()
        finally:  # where the engine ends this process
            worker.terminate()
            worker.wait()
        if not _killed(status):
            break
        if turn < AGAIN:
            before_again()
    return status


def _killed(status: int) -> bool:
    """Whether a signal has ended a process, or it has ended in order because of a SIGTERM."""
    return status < 0 or status == 128 + signal.SIGTERM
