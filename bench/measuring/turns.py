"""Ways to do a thing in one process that take turns: machine noise hits all of them alike."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def in_turns(ways: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each turn of each way; the first turn warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns + 1):  # who follows whom changes, for memory is as it was left
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            result = ways[name]()
            took = time.perf_counter() - start
            del result
            if turn:
                seconds[name].append(took)
    return seconds


def milliseconds(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each way."""
    return {f"{name}_ms": 1e3 * statistics.median(took) for name, took in seconds.items()}


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """Return the medians of paired ratios to the way `base`."""
    return {
        f"{name}_ratio": statistics.median(a / b for a, b in zip(took, seconds[base], strict=True))
        for name, took in seconds.items()
        if name != base
    }
