"""A remote that is asked again and again while other work goes on: failures cost warnings, and at last it is left."""

import threading
from collections.abc import Callable
from typing import TypeVar

from cache.remotes.base import SlowError
from cache.sharing import board
from cache.store.resumable_file import WriteError
from common.errors import CacheError
from common.output import say

FAILURES, RETRY = 5, 30.0  # in a row before a remote is asked no more; seconds between them
MOST = 20  # in all: one that reads but never writes does not fail in a row
Result = TypeVar("Result")


class Contact:
    """What several threads ask of one remote.  `over`: no more is asked; `ended`: the work is done, or has failed."""

    def __init__(self) -> None:
        self.over, self.ended = False, threading.Event()
        self._lock, self._failures, self._silent = threading.Lock(), 0, float("-inf")
        self._total = 0

    @property
    def there(self) -> bool:
        """Whether it may be asked: it has not failed just now."""
        return not self.over and board.clock() >= self._silent

    def asked(self, action: Callable[[], Result], otherwise: Result) -> Result:
        """Return what it answers, or something else where it fails or has just failed.  Raises WriteError."""
        if not self.there:
            return otherwise
        try:
            found = action()
        except WriteError:
            raise
        except CacheError as error:
            self.failed(error)
            return otherwise
        self._failures = 0
        return found

    def failed(self, error: CacheError) -> None:
        """Ask nothing for a while, or no more; say the first failure and the last."""
        with self._lock:
            if self.ended.is_set() or self.over:
                return
            self._failures += 1
            self._total += 1
            self._silent = board.clock() + RETRY
            self.over = isinstance(error, SlowError) or self._failures >= FAILURES or self._total >= MOST
        if self.over:
            say(f"warning: {error}. This machine makes the rest alone")
        elif self._total == 1:
            say(f"warning: {error}. This machine goes on without others, and asks again in {RETRY:g} s")

    def advance(self, count: int) -> None:
        """Hear of bytes that are on their way.  Raises CacheError once the work has ended."""
        if self.ended.is_set():
            raise CacheError("the work has ended")
