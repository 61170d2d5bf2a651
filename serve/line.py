"""The line in front of the linker: bounded; mentions that wait together are linked together, by one thread.

torch is not called from two threads at once, and a batch takes less time than its mentions one after the other.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from extract import images
from link.records import EntityCard, Link, NewMention
from serve.refusals import Refusal

BATCH = 32  # mentions that are linked together; a request of more is a batch of its own
# pixels of pictures that are linked together, of one request and of one client that wait: a small file may hold 64
# million, which take 4 bytes each and seconds
PIXELS = 100_000_000
ALL_PIXELS = 4 * PIXELS  # that wait
SMALLER = "send smaller pictures, or fewer at once"


class Links(Protocol):
    """What is served: link.linker.Linker, or what a test puts in its place."""

    def link(self, mentions: Sequence[NewMention], *, top: int = 10, nil_below: float = 0.0) -> list[Link]:
        """Return the answer to each mention."""

    def entity(self, id: str) -> EntityCard | None:
        """Return an entity by its id."""


@dataclass(frozen=True)
class _Ticket:
    mentions: Sequence[NewMention]
    pixels: int
    top: int
    nil_below: float
    answer: asyncio.Future[list[Link]]


class Line:
    """Links for many who ask at once: at most `most` mentions wait, at most `share` of them of one client.

    So do pictures by their pixels: at most ALL_PIXELS, PIXELS of one client.
    """

    def __init__(self, linker: Links, most: int, share: int, patience: float) -> None:
        self._linker, self._most, self._share, self._patience = linker, most, share, patience
        self._tickets: deque[_Ticket] = deque()
        self._of: Counter[str] = Counter()
        self._pixels: Counter[str] = Counter()
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="linker")
        self._pace = 0.05  # seconds of a mention in the last batch

    @property
    def waiting(self) -> int:
        """Mentions that wait, or are being linked."""
        return self._of.total()

    async def link(self, mentions: Sequence[NewMention], top: int, nil_below: float, client: str) -> list[Link]:
        """Return the answers.

        Raises Refusal where the line is full (503), the client has its share of it (429) or the time is over (503),
        its pictures are too large (413), and MelcacheError for a mention that cannot be linked.
        """
        count, pixels = len(mentions), await _pixels_of(mentions)
        self._check_pixels(pixels, client)
        if self._of[client] + count > self._share:
            told = f"{self._of[client]} mentions of your address wait, of at most {self._share}: wait for their answers"
            raise Refusal(429, told, self._seconds(self._of[client]))
        if self.waiting + count > self._most:
            told = f"{self.waiting} mentions wait, of at most {self._most}: try again later"
            raise Refusal(503, told, self._seconds(self.waiting))
        self._of[client] += count
        self._pixels[client] += pixels
        try:
            answer = asyncio.get_running_loop().create_future()
            return await self._answer(_Ticket(mentions, pixels, top, nil_below, answer))
        finally:
            self._of[client] -= count
            self._pixels[client] -= pixels
            if not self._of[client]:
                del self._of[client], self._pixels[client]

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _check_pixels(self, pixels: int, client: str) -> None:
        if pixels > PIXELS:
            raise Refusal(413, f"{_millions(pixels)} in pictures, expected at most {_millions(PIXELS)}: {SMALLER}")
        if pixels and self._pixels[client] + pixels > PIXELS:
            told = f"{_millions(self._pixels[client])} of pictures of your address wait, of at most {_millions(PIXELS)}"
            raise Refusal(429, f"{told}: wait for their answers, or {SMALLER}", self._seconds(self._of[client]))
        if pixels and self._pixels.total() + pixels > ALL_PIXELS:
            raise Refusal(503, "too many large pictures wait: try again later", self._seconds(self.waiting))

    async def _answer(self, ticket: _Ticket) -> list[Link]:
        self._tickets.append(ticket)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._until_empty())
        try:
            return await asyncio.wait_for(ticket.answer, self._patience)
        except TimeoutError:
            told = f"the answer takes longer than {self._patience:g} s: ask for fewer mentions at once, or later"
            raise Refusal(503, told, self._seconds(self.waiting)) from None

    def _seconds(self, waiting: int) -> int:
        """Return after how many seconds so many mentions will have been linked."""
        return max(1, min(60, round(self._pace * waiting)))

    async def _until_empty(self) -> None:
        while batch := self._next():
            await self._link(batch)

    def _next(self) -> list[_Ticket]:
        """Return the tickets of the next batch; who has gone is left out."""
        batch: list[_Ticket] = []
        while self._tickets:
            if self._tickets[0].answer.done():
                self._tickets.popleft()
                continue
            with_it = [*batch, self._tickets[0]]
            mentions, pixels = sum(len(ticket.mentions) for ticket in with_it), sum(ticket.pixels for ticket in with_it)
            if batch and (mentions > BATCH or pixels > PIXELS):
                break
            batch.append(self._tickets.popleft())
        return batch

    async def _link(self, batch: Sequence[_Ticket]) -> None:
        """Answer each ticket of a batch. One that cannot be linked fails alone: the others are linked without it."""
        mentions = [mention for ticket in batch for mention in ticket.mentions]
        top, begun = max(ticket.top for ticket in batch), time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._thread, _linked, self._linker, mentions, top)
        await asyncio.wait([work])
        self._pace = (time.monotonic() - begun) / len(mentions)
        if (error := work.exception()) is not None and len(batch) > 1:  # be it a fault of ours
            for ticket in batch:
                if not ticket.answer.done():
                    await self._link([ticket])
            return
        found = iter(() if error else work.result())
        for ticket in batch:
            links = [_cut(next(found), mention, ticket) for mention in ticket.mentions] if error is None else []
            if ticket.answer.done():  # its client has gone
                continue
            if error is None:
                ticket.answer.set_result(links)
            else:
                ticket.answer.set_exception(error)


async def _pixels_of(mentions: Sequence[NewMention]) -> int:
    """Return how many pixels the pictures of mentions have: each counts, be it another's copy."""
    if pictures := [mention.image for mention in mentions if isinstance(mention.image, bytes)]:
        return sum(await asyncio.to_thread(lambda: [images.pixels(picture) for picture in pictures]))
    return 0


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f} million pixels"


def _linked(linker: Links, mentions: Sequence[NewMention], top: int) -> list[Link]:
    """Link mentions without the ids that clients give them: two may give the same."""
    with ExitStack() as held:
        asked = [replace(mention, id=None, image=_in_memory(mention.image, held)) for mention in mentions]
        return linker.link(asked, top=top)


def _in_memory(image: Path | str | bytes | None, held: ExitStack) -> Path | str | bytes | None:
    """Return a picture's bytes as a file that lies in memory alone: on a disk, a kill would leave it there."""
    if not isinstance(image, bytes) or not hasattr(os, "memfd_create"):
        return image
    file = held.enter_context(os.fdopen(os.memfd_create("picture"), "wb"))
    file.write(image)
    file.flush()
    return Path(f"/proc/self/fd/{file.fileno()}")


def _cut(link: Link, mention: NewMention, ticket: _Ticket) -> Link:
    """Return the link of a mention as its own request asked for it: so many candidates, abstaining below so much."""
    unsure = bool(link.candidates) and link.candidates[0].probability < ticket.nil_below
    return replace(link, mention=mention, candidates=link.candidates[: ticket.top], nil=link.nil or unsure)
