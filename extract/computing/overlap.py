"""What an extraction does beside its encoders: threads that make things ahead, one that writes, and when what was."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Generic, Self, TypeVar

from cache.writing.writer import Shard

Item = TypeVar("Item")
Result = TypeVar("Result")
Span = tuple[float, float]  # from when to when, in seconds of one clock
DECODING, ENCODING, WRITING = "decoding", "encoding", "writing"
LEAST = 0.05  # seconds that are worth a word
MOST = 64  # tasks that wait: what a batch made, or the shards of a part


class Spans:
    """When decoding, encoding and writing went on, in any thread."""

    def __init__(self) -> None:
        self._spans: dict[str, list[Span]] = defaultdict(list)

    def add(self, what: str, begin: float, end: float) -> None:
        """Note that something went on from one time to another, of time.monotonic."""
        self._spans[what].append((begin, end))

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Note that something goes on in the block."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.add(what, begin, time.monotonic())

    def each(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and note that something goes on while the next one is made."""
        waiting = iter(items)
        while True:
            with self.of(what):
                item = next(waiting, None)
            if item is None:
                return
            yield item

    def seconds(self, what: str) -> float:
        """Return how long something went on, in however many threads at once."""
        return _length(_union(self._spans[what]))

    def hidden(self, what: str) -> float:
        """Return the share of that time in which an encoder was at work, 1 where there is none."""
        alone = _length(_union([*self._spans[what], *self._spans[ENCODING]])) - self.seconds(ENCODING)
        return 1 - alone / self.seconds(what) if self.seconds(what) else 1.0

    def told(self) -> str:
        """Return in words how much of decoding and writing was hidden behind the encoders, "" of neither."""
        said = [
            f"{self.hidden(what):.1%} of {self.seconds(what):.1f} s {what}"
            for what in (DECODING, WRITING)
            if self.seconds(what) >= LEAST
        ]
        return f"while encoders were at work: {', '.join(said)}" if said else ""


class Writing:
    """A thread that does what it is told in order; a context, at whose end all is done.  `spans` notes when.

    What a task raises is raised at the next `do` or `drain`, and what waits behind it is left undone. `unsaved` are, by
    part, the rows that are to be saved, with what stores the last of them.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans, self._waiting, self._failed = spans, deque[Future[None]](), False
        self._thread = ThreadPoolExecutor(1, "writing")
        self.unsaved: dict[str, list[tuple[Shard, Future[None] | None]]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.drain()

    def do(self, task: Callable[[], None]) -> Future[None]:
        """Let the thread do a task; wait while MOST tasks are before it."""
        while len(self._waiting) >= MOST or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._do, task))
        return self._waiting[-1]

    def drain(self) -> None:
        """Wait until everything is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def _do(self, task: Callable[[], None]) -> None:
        if self._failed:
            return
        self._failed = True
        with self._spans.of(WRITING):
            task()
        self._failed = False


class Held:
    """How much of what threads have made ahead is in memory; behind `most` they make no more.  Safe in threads."""

    def __init__(self, most: int) -> None:
        self._most, self._count, self._lock = most, 0, threading.Lock()

    @property
    def full(self) -> bool:
        """Whether no more shall be made ahead."""
        return self._count >= self._most

    def add(self, count: int) -> None:
        """Hear of more, or of less."""
        with self._lock:
            self._count += count


class Ahead(Generic[Item, Result]):
    """What threads make of items, in their order; its length is how many are begun and not taken yet.

    While `held` is full of what others have made, of which each is as much as `size` says, an item is left for `take`.
    """

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        make: Callable[[Item], Result],
        items: Iterable[Item],
        held: Held,
        size: Callable[[Result], int],
    ) -> None:
        self._threads, self._make, self._items, self._held, self._size = threads, make, iter(items), held, size
        self._begun = deque[tuple[Item, Future[Result | None]]]()

    def __len__(self) -> int:
        return len(self._begun)

    def begin(self, most: int) -> None:
        """Begin items until so many are begun, or none is left."""
        for item in islice(self._items, max(0, most - len(self))):
            self._begun.append((item, self._threads.submit(self._ahead, item)))

    def take(self) -> tuple[Item, Result]:
        """Return the first item that is begun and what is made of it, for which it waits."""
        item, begun = self._begun.popleft()
        if (made := begun.result()) is None:
            return item, self._make(item)
        self._held.add(-self._size(made))
        return item, made

    def drop(self) -> None:
        """Leave what no thread is at yet."""
        while self._begun:
            begun = self._begun.popleft()[1]
            if not begun.cancel():
                begun.add_done_callback(self._left)

    def _ahead(self, item: Item) -> Result | None:
        if self._held.full:
            return None
        made = self._make(item)
        self._held.add(self._size(made))
        return made

    def _left(self, begun: Future[Result | None]) -> None:
        if begun.exception() is None and (made := begun.result()) is not None:
            self._held.add(-self._size(made))


def _union(spans: Iterable[Span]) -> list[Span]:
    """Return spans that do not overlap and cover the same times, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _length(spans: Iterable[Span]) -> float:
    return sum(end - begin for begin, end in spans)
