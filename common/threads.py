"""How threads wait for each other.  Settled before torch is imported: its OpenMP library looks once, when loaded."""

import os


def sleep_when_waiting() -> None:
    """Let threads that wait for work sleep, unless OMP_WAIT_POLICY says otherwise.

    By default they spin for some milliseconds first, on cores that others could use: docs/benchmarks.md has the ratios.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
