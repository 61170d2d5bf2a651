"""The share of the time in which a GPU's kernels run, as nvidia-smi has it."""

import contextlib
import subprocess
from collections.abc import Iterator

COMMAND = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=200")


@contextlib.contextmanager
def busy_share(device: str, command: tuple[str, ...] = COMMAND) -> Iterator[list[float]]:
    """Put the mean of what the command says every 200 ms into the list; nothing on a CPU, or where it says nothing.

    A part of a GPU (MIG) has no such number.
    """
    found: list[float] = []
    if device == "cpu":
        yield found
        return
    try:
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:  # no such command
        yield found
        return
    try:
        yield found
    finally:
        asking.terminate()
        said, _ = asking.communicate()
        if numbers := [float(line) / 100 for line in said.split() if line.isdecimal()]:
            found.append(sum(numbers) / len(numbers))
