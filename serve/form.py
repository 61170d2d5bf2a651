"""The page's form, read: what was typed, and a picture."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from link.records import NewMention
from serve.pages import Filled, Place
from serve.refusals import Refusal
from serve.schema import LONGEST_MENTION, LONGEST_TEXT

TOP = 10  # candidates on the page
SEEN = 30  # characters around a place
_NUMBER = {"type": "string", "pattern": "^[0-9]{0,8}$"}
_FIELDS = {
    "text": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
    "mention": {"type": "string", "minLength": 1, "maxLength": LONGEST_MENTION},
    "start": _NUMBER,  # where it was selected, by JavaScript; else empty
    "end": _NUMBER,
    "at": _NUMBER,  # where it begins, of several places that the page asked about
    "nil_below": {"type": "number", "minimum": 0, "maximum": 1},
    "image": {"type": "string", "contentMediaType": "application/octet-stream"},
}
_SCHEMA = {
    "type": "object",
    "required": ["text", "mention"],
    "properties": _FIELDS,
    "additionalProperties": False,
}
BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}}
MORE = "the form is incomplete, or has more in it than the page's"


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # the gate bounds it, and no picture of anybody's lies in a temporary file


@dataclass(frozen=True)
class Typed:
    """What was typed and chosen: `start` and `end` of the mention where it was selected, and a picture's bytes."""

    filled: Filled
    start: int | None
    end: int | None
    picture: bytes | None

    def new_mention(self) -> NewMention:
        """Return it as the linker takes it."""
        surface = self.filled.mention if self.end is None else self.filled.text[self.start : self.end]
        return NewMention(self.filled.text, surface, self.start, self.end, self.picture)

    def places(self) -> list[Place]:
        """Return where the mention stands, if nothing says which place is meant; whole words count before others."""
        text, surface = self.filled.text, self.filled.mention
        if self.start is not None or not surface:
            return []
        found = [match.start() for match in re.finditer(f"(?={re.escape(surface)})", text)]
        whole = [at for at in found if not (text[at - 1 : at].isalnum() or text[at + len(surface) :][:1].isalnum())]
        return [
            Place(at, text[max(0, at - SEEN) : at], text[at + len(surface) :][:SEEN]) for at in (whole or found)[:20]
        ]


async def read(request: Request) -> Typed:
    """Return the form of a request.  Raises Refusal, with what was typed put into the request's page."""
    fields, picture = await _parts(request)
    text, mention = fields.get("text", "").replace("\r\n", "\n"), fields.get("mention", "").strip()
    request.scope["filled"] = filled = Filled(text[:LONGEST_TEXT], mention[:LONGEST_MENTION])
    if not text or not mention:
        raise Refusal(422, f"the {'mention' if text else 'sentence'} is empty")
    if len(text) > LONGEST_TEXT:
        raise Refusal(422, f"the sentence has {len(text):,} characters, expected at most {LONGEST_TEXT:,}")
    if len(mention) > LONGEST_MENTION:
        raise Refusal(422, f"the mention has {len(mention):,} characters, expected at most {LONGEST_MENTION:,}")
    nil_below = _probability(fields.get("nil_below", ""))
    chosen = _whole(fields, "at")
    start = _whole(fields, "start") if chosen is None else chosen
    end = _whole(fields, "end") if chosen is None else chosen + len(mention)
    return Typed(Filled(filled.text, filled.mention, nil_below), start, end, picture)


async def _parts(request: Request) -> tuple[Mapping[str, str], bytes | None]:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"charset" in options:
        raise Refusal(422, "this address takes the page's form alone: programs ask /api/link")
    parser = _InMemory(
        request.headers, request.stream(), max_files=1, max_fields=len(_FIELDS), max_part_size=4 * LONGEST_TEXT + 1024
    )
    try:
        parts = await parser.parse()
    except MultiPartException:
        raise Refusal(422, MORE) from None
    if not set(parts) <= set(_FIELDS):
        raise Refusal(422, MORE)
    fields = {name: value for name, value in parts.items() if isinstance(value, str)}
    pictures = [value for value in parts.values() if isinstance(value, UploadFile)]
    data = b"".join([await picture.read() for picture in pictures])
    await parts.close()
    named = any(picture.filename for picture in pictures)  # a form without a picture sends an empty one of no name
    return fields, data if named else None


def _probability(text: str) -> float:
    try:
        found = float(text or 0)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise Refusal(422, f"a probability is {text!r:.40}, expected a number from 0 to 1")
    return found


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise Refusal(422, f"{name} is {text!r:.40}, expected a whole number")
    return int(text)
