"""A remote that is asked again and again while other work goes on: failures cost warnings, and at last it is left."""

import threading
from collections.abc import Callable
from typing import TypeVar

from cache.remotes.base import SlowError
from cache.sharing import board
from cache.store.resumable_file import WriteError
from common.errors import CacheError
from common.output import say

FAILURES, RETRY = 5, 30.0  # before a remote is asked no more; seconds after one in which it is not asked
CALM = 300.0  # seconds without a failure behind which earlier ones count no more: reads may go on where writes fail
Result = TypeVar("Result")


class Contact:
    """What several threads ask of one remote.  `over`: no more is asked; `ended`: the work is done, or has failed."""

    def __init__(self) -> None:
        self.over, self.ended = False, threading.Event()
        self._lock, self._failures, self._silent = threading.Lock(), 0, float("-inf")

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
        if board.clock() > self._silent + CALM:
            self._failures = 0
        return found

    def failed(self, error: CacheError) -> None:
        """Ask nothing for a while, or no more; say the first failure and the last."""
        with self._lock:
            if self.ended.is_set() or self.over:
                return
            self._failures += 1
            self._silent = board.clock() + RETRY
            self.over = isinstance(error, SlowError) or self._failures >= FAILURES
        if self.over:
            say(f"warning: {error}. This machine makes the rest alone")
        elif self._failures == 1:
            say(f"warning: {error}. This machine goes on without others, and asks again in {RETRY:g} s")

    def advance(self, count: int) -> None:
        """Hear of bytes that are on their way.  Raises CacheError once the work has ended."""
        if self.ended.is_set():
            raise CacheError("the work has ended")
