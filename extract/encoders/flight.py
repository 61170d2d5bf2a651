"""Batches in flight: a device has the next one while the host reads what it made of one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Result = TypeVar("Result")


def in_flight(begun: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """Yield what functions return that wait for batches, in order; each batch is begun `ahead` of one that is read."""
    waiting: deque[Callable[[], Result]] = deque()
    for finish in begun:
        waiting.append(finish)
        if len(waiting) > ahead:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
