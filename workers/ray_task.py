"""What a task of Ray does: a worker as a process of its own.  It goes to nodes by value, so it needs no path there."""

import os
import socket
import sys
import tempfile

from workers.keeper import keep

TAIL = 500  # characters of what a worker said last


def work(words: list[str], environment: dict[str, str], shared: str, folder: str) -> tuple[int, str]:
    """Run Python with words in a folder; return the status of the process and the last line that it wrote.

    `shared` is the folder of what workers make, which the one who asks has made.
    """
    for needed in (shared, folder):
        if not os.path.isdir(needed):
            return 1, f"{socket.gethostname()} has no folder {needed}: all nodes must share its file system"
    with tempfile.TemporaryFile() as log:
        status = keep([sys.executable, *words], environment, folder, log)
        log.seek(0)
        return status, log.read().decode(errors="replace").strip().rpartition("\n")[2][:TAIL]
