"""Where the time of an extraction goes, by part."""

import time
from collections import Counter


class Clock:
    """What has passed since the last mark counts for the parts that are marked, in equal shares.

    Encoders hand their results over as numpy arrays, so that a device has finished when they are stored.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last = time.monotonic()

    def start(self) -> None:
        """Let what has passed count for no part."""
        self._last = time.monotonic()

    def mark(self, *parts: str) -> None:
        """Count what has passed for these parts."""
        now = time.monotonic()
        for part in parts:
            self.seconds[part] += (now - self._last) / len(parts)
        self._last = now
