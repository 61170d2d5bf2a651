"""Where the time of an extraction goes, by part."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """What has passed since the last mark counts for the parts that are marked, in equal shares.

    Encoders hand their results over as numpy arrays, so that a device has finished when they are stored. Shards are
    saved in another thread, whose seconds count for the part too.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last, self._lock = time.monotonic(), threading.Lock()

    def start(self) -> None:
        """Let what has passed count for no part."""
        self._last = time.monotonic()

    def mark(self, *parts: str) -> None:
        """Count what has passed for these parts."""
        now = time.monotonic()
        with self._lock:
            for part in parts:
                self.seconds[part] += (now - self._last) / len(parts)
        self._last = now

    @contextmanager
    def beside(self, part: str) -> Iterator[None]:
        """Count the block for a part, beside what goes on meanwhile in the thread that marks."""
        begin = time.monotonic()
        yield
        with self._lock:
            self.seconds[part] += time.monotonic() - begin
