"""A deadline of progress: what a remote is asked for must bring so many bytes in so many seconds, however it drips.

The clients' own timeouts begin anew with every byte, so that a body of one byte a second is read for weeks. Here each
request runs in a thread, which is left to itself where it is late: nothing that a client waits for can hold a caller.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

WINDOW = 60.0  # seconds, in each of which
LEAST = 64 << 10  # bytes must come, or be sent: 1 kB a second
clock = time.monotonic

Came = Callable[[int], object]  # to be told of bytes that have come
Result = TypeVar("Result")


class LateError(Exception):
    """Too little has come for too long."""


class Patience:
    """The windows of one request, which sends so many bytes before its answer can begin."""

    def __init__(self, sending: int = 0) -> None:
        self._lock, self._begun, self._bytes = threading.Lock(), clock(), 0
        self._length = WINDOW * (1 + sending / LEAST)

    def came(self, count: int = 0) -> float:
        """Count bytes and return the seconds that are left of the window.  Raises LateError behind one of too few."""
        with self._lock:
            self._bytes += count
            left = self._begun + self._length - clock()
            if left > 0:
                return left
            if self._bytes < LEAST:
                raise LateError
            self._begun, self._bytes, self._length = clock(), 0, WINDOW
            return WINDOW


def within(action: Callable[[Came], Result], sending: int = 0) -> Result:
    """Return what `action` returns, which is given whom to tell of bytes.  Raises LateError, and what it raises."""
    patience, done = Patience(sending), Future[Result]()

    def work() -> None:
        try:
            done.set_result(action(patience.came))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="melcache remote", daemon=True).start()
    while not done.done():
        wait([done], patience.came())
    return done.result()
