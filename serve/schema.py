"""What is asked and answered as JSON: these types are the OpenAPI schema."""

import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from starlette.requests import Request

from link.records import NewMention
from serve.refusals import Refusal, sentence_of

LONGEST_TEXT, LONGEST_MENTION, LONGEST_ID = 10_000, 1_000, 500  # characters
MOST_CANDIDATES, MOST_TOP = 1_000, 100
MOST_MARKS = 200_000  # brackets and commas of a request: each may become an object of Python


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # base64.b64decode would make one more copy
    except (binascii.Error, ValueError):
        raise ValueError("expected the bytes of a picture in base64") from None


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and number.is_integer() else number


# 7.0 is an integer in a JSON schema
Place = Annotated[int, Field(ge=0, le=LONGEST_TEXT), BeforeValidator(_whole)]
Top = Annotated[int, Field(ge=1, le=MOST_TOP), BeforeValidator(_whole)]
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
Picture = Annotated[
    bytes,
    BeforeValidator(_decoded),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "pattern": BASE64}),
]
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
}
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]


# what `_says_what` checks: the string itself, or where it stands
_NUMBER = {"type": "integer"}
_WHICH: dict[str, Any] = {
    "anyOf": [
        {"required": ["mention"]},
        {"required": ["start", "end"], "properties": {"start": _NUMBER, "end": _NUMBER}},
    ]
}


class Asked(BaseModel):
    """A mention to link: a string in a text."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Mention", json_schema_extra=_WHICH)

    text: str = Field(min_length=1, max_length=LONGEST_TEXT, description="The sentence that the mention stands in.")
    mention: str = Field(
        "", min_length=1, max_length=LONGEST_MENTION, description="The string in the text that is to be linked."
    )
    start: Place | None = Field(None, description="Its first character, where the text has it more than once.")
    end: Place | None = Field(None, description="The character behind it.")
    image: Picture | None = Field(None, description="A picture: the bytes of its file in base64.")
    candidates: list[Id] | None = Field(
        None, min_length=1, max_length=MOST_CANDIDATES, description="Ids of entities to rank; else they are retrieved."
    )
    id: Id | None = Field(None, description="A name for the mention, which the answer repeats.")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.mention and (self.start is None or self.end is None):
            raise ValueError("say which mention: the string itself, or start and end")
        return self

    def new_mention(self) -> NewMention:
        """Return it as the linker takes it."""
        chosen = None if self.candidates is None else tuple(self.candidates)
        return NewMention(self.text, self.mention, self.start, self.end, self.image, chosen, self.id)


class Question(BaseModel):
    """Mentions to link, and how to answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mentions: list[Asked] = Field(min_length=1)
    top: Top = Field(10, description="Candidates of each mention, best first.")
    nil_below: float = Field(
        0.0, ge=0, le=1, description="Abstain where the best candidate is less probable than this."
    )


class Entity(BaseModel):
    """An entity. `picture` is an address on this server."""

    id: str
    name: str
    description: str | None
    picture: str | None
    new: bool


class Ranked(Entity):
    """An entity as a candidate; its description may be shortened."""

    score: float
    probability: float
    evidence: dict[str, float | None]


class Answer(BaseModel):
    """A mention and its candidates, as `melcache link --json` prints it; but pictures are addresses on this server."""

    mention: str
    text: str
    surface: str
    start: int
    end: int
    nil: bool
    picture: str
    known: str | None
    candidates: list[Ranked]


class Health(BaseModel):
    """What is served, and how many mentions wait."""

    status: str
    run: str
    model: str
    dataset: str
    cache_id: str
    entities: int
    warnings: list[str]
    waiting: int


class Error(BaseModel):
    """Why a request is refused, in a sentence."""

    error: str


async def question(request: Request) -> Question:
    """Return what a request asks: JSON with each key once, finite numbers alone, and no bomb.  Raises Refusal."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "expected JSON, and content-type: application/json")
    parsed = [_parsed(await _text(request))]
    try:
        return Question.model_validate(parsed.pop())
    except ValidationError as error:
        told = sentence_of(error.errors(include_url=False, include_context=False, include_input=False))
        raise Refusal(422, told) from None


async def _text(request: Request) -> str:
    """Return the body, of which what it was made of is not kept: serve.door.body counts what is in memory."""
    body = bytearray()
    async for part in request.stream():
        body += part
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_MARKS:
        raise Refusal(413, f"the JSON has more than {MOST_MARKS:,} brackets and commas: ask for fewer mentions at once")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refusal(422, "the body is no JSON: it is not UTF-8") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        told = "it is nested too deep" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise Refusal(422, f"the body is no JSON: {told}") from None


def openapi(found: dict[str, Any], max_mentions: int) -> None:
    """Add what `question` reads to an OpenAPI schema."""
    asked = Question.model_json_schema(ref_template="#/components/schemas/{model}")
    asked["properties"]["mentions"]["maxItems"] = max_mentions
    found["components"]["schemas"] |= asked.pop("$defs") | {"Question": asked}


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _finite(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
