"""A linker that is a table: what is served is tested without encoders."""

import threading
import time
from dataclasses import replace
from pathlib import Path

from common.errors import CacheError
from link.questions import QuestionError
from link.records import Candidate, EntityCard, Link, NewMention

NAMES = ("Super-G", "Giant slalom", "<script>alert(1)</script>", "سوبر جي", "{{ 7 * 7 }}")


def read(image):
    """The bytes of a picture, which lie in memory alone."""
    if image is None or isinstance(image, bytes):
        return image
    assert str(image).startswith("/proc/self/fd/")
    return image.read_bytes()


class FakeLinker:
    """Entities Q0 to Q4 and two odd ones; a text that contains "fail" is refused, "lost" a file, "crash" a bug.

    `calls` are the numbers of mentions of each call; `gate`, where set, is waited for in each call.
    """

    def __init__(self, picture: Path | None = None, seconds: float = 0.0) -> None:
        self.cards = {
            f"Q{row}": EntityCard(f"Q{row}", name, f"number {row}", picture if row != 1 else None, new=row == 4)
            for row, name in enumerate(NAMES)
        }
        odd = 'a/../"b" ?#é'
        self.cards[odd] = EntityCard(odd, "odd", "x" * 2_000, picture)
        self.cards["broken"] = EntityCard("broken", "broken", None, Path(__file__))
        self.calls: list[int] = []
        self.mentions: list[NewMention] = []
        self.gate: threading.Event | None = None
        self.seconds = seconds
        self.about = {
            "run": "/home/someone/runs/demo",
            "model": "drin",
            "dataset": "demo",
            "cache_id": "0123456789abcdef",
            "entities": 5,
            "warnings": ["random <weights>"],
        }

    def entity(self, id: str) -> EntityCard | None:
        return self.cards.get(id)

    def link(self, mentions, *, top=10, nil_below=0.0):
        self.calls += [len(mentions)]
        mentions = [replace(mention, image=read(mention.image)) for mention in mentions]
        self.mentions += mentions
        if self.gate is not None:
            self.gate.wait(20)
        time.sleep(self.seconds * len(mentions))
        return [self._link(place, mention, top) for place, mention in enumerate(mentions)]

    def _link(self, place: int, mention: NewMention, top: int) -> Link:
        if "fail" in mention.text:
            raise QuestionError(f"mention {place + 1}: there is no such thing in {mention.text!r}")
        if "lost" in mention.text:
            raise CacheError("/srv/my shards/demo/entity.h5 or file:///srv/shards is not there")
        if "crash" in mention.text:
            raise RuntimeError("a fault of ours")
        start = mention.text.find(mention.mention) if mention.start is None else mention.start
        end = start + len(mention.mention) if mention.end is None else mention.end
        if start < 0 or not start < end <= len(mention.text):
            raise QuestionError(f"mention {place + 1}: it does not stand in the text")
        found = [
            Candidate(
                card,
                1.0 - rank / 10,
                0.5 / (rank + 1),
                {"string": 0.9, "text_to_text": -0.2, "image_to_image": None if mention.image is None else 0.7},
            )
            for rank, card in enumerate(list(self.cards.values())[:5])
        ]
        picture = "none" if mention.image is None else "ok" if mention.image else "empty"
        picture = "corrupt" if mention.image == b"broken" else picture
        return Link(mention, mention.text[start:end], start, end, tuple(found[:top]), False, picture)
