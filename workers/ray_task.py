"""What a task of Ray does: a worker as a process of its own.  It goes to nodes by value, so it needs no path there."""

import os
import socket
import sys

from workers.keeper import keep

TAIL = 500  # characters of what a worker said last


def work(words: list[str], environment: dict[str, str], folder: str, logs: str, place: int) -> tuple[int, str]:
    """Run Python with words in a folder; return the status of the process and the last line that it wrote.

    `logs` is a folder that the one who asks has made on the file system that all nodes must share.
    """
    for needed in (logs, folder):
        if not os.path.isdir(needed):
            host = socket.gethostname()
            return 1, f"{host} has no folder {needed}: it must lie on a file system that all nodes share"
    log = os.path.join(logs, f"{place}.log")
    with open(log, "ab") as out:
        status = keep([sys.executable, *words], environment, folder, out)
    with open(log, "rb") as said:
        return status, said.read().decode(errors="replace").strip().rpartition("\n")[2][:TAIL]
