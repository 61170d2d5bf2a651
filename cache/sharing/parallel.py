"""Many files at once: a small pool of threads, one progress, and a halt for all where one fails."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Self, TypeVar

from common.output import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class HaltedError(Exception):
    """Another transfer has failed; this one ends at its block."""


class Transfer:
    """Bytes on their way, `total` of them.  A context that shows their progress under `label`."""

    def __init__(self, total: int, label: str, threads: int) -> None:
        self._progress, self._threads = Progress(total, label, "B"), threads
        self._lock, self._halt = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__()

    def advance(self, count: int) -> None:
        """Report bytes that are through.  Raises HaltedError where the others have been told to stop."""
        with self._lock:
            self._progress.advance(count)
        if self._halt.is_set():
            raise HaltedError

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return what the work returns for all items, in order.

        The first failure, or Ctrl-C, halts the others at their blocks and is raised.
        """

        def guarded(item: Item) -> Result:
            if self._halt.is_set():
                raise HaltedError
            try:
                return work(item)
            except BaseException:
                self._halt.set()
                raise

        with ThreadPoolExecutor(self._threads) as pool:
            jobs = [pool.submit(guarded, item) for item in items]
            try:
                wait(jobs)
            except BaseException:
                self._halt.set()
                raise
        errors = [error for job in jobs if (error := job.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, HaltedError)):  # the cause first
            raise error
        return [job.result() for job in jobs]
