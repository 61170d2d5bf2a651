"""Requests that are refused: a status, one sentence of ours, and the one form that all errors have."""

from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve import pages

SENTENCES = {  # of what the framework refuses by itself
    400: "this is no request that can be read",
    404: "there is nothing at this address",
    405: "this address does not take that method",
}
FAILED = "the server failed at this request; its terminal says why"


class Refusal(HTTPException):
    """An answer that is no success; `retry_after` are seconds after which it may be one."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        headers = None if retry_after is None else {"retry-after": str(retry_after)}
        super().__init__(status, sentence, headers)


def response(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Return the error as JSON; on the page itself as the page, with what was typed where it is known."""
    if request.url.path == "/":
        return pages.refused(request, status, sentence, headers)
    return JSONResponse({"error": sentence}, status, headers)


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what we, or the framework, refuse."""
    assert isinstance(error, HTTPException)
    sentence = error.detail if isinstance(error, Refusal) else SENTENCES.get(error.status_code, error.detail)
    return response(request, error.status_code, sentence, dict(error.headers or {}))


async def on_failure(request: Request, error: Exception) -> Response:
    """Answer what is a fault of ours; the server prints it when this is sent."""
    return response(request, 500, FAILED)


def sentence_of(errors: Sequence[Any]) -> str:
    """Return pydantic's errors as a sentence: the first one, where it is, and how many more there are."""
    first, *more = errors
    place = ""
    for step in first["loc"][1:] if first["loc"][:1] == ("body",) else first["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else f"{step:.60}"
    what = first["msg"].removeprefix("Value error, ")
    rest = f" ({len(more)} more)" if more else ""
    return f"{place or 'the request'}: {what[:1].lower()}{what[1:]}{rest}".encode(errors="replace").decode()
