"""The application: every address, what it takes and what it answers."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from common.errors import MelcacheError
from common.output import say
from link.questions import QuestionError
from link.records import EntityCard
from serve import answers, form, pages, refusals, schema
from serve.config import ServeConfig
from serve.door.gate import MEGABYTE, Gate, Hosts
from serve.door.peers import peer
from serve.line import Line, Links
from serve.refusals import Refusal
from serve.schema import LONGEST_ID, Answer, Entity, Error, Health
from serve.thumbnails import Thumbnails

OFF: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
WHY = {
    400: "What came is no request.",
    404: "There is none.",
    408: "The request came too slowly.",
    413: "The request, or its pictures, are too large.",
    415: "The request is no JSON.",
    422: "What is asked cannot be answered.",
    429: "Too many mentions from one address wait, or too large pictures.",
    503: "Too many mentions wait, or the answer takes too long.",
}
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "A JPEG of at most 160 x 160 pixels."}
}
HTML = {"text/html": {"schema": {"type": "string"}}}
PAGE_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"content": HTML, "description": WHY[status]} for status in (400, 408, 413, 422, 429, 503)
}
Id = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, description="The entity's id.")]


api = APIRouter()


class Served:
    """The application behind its gate, and what it is made of."""

    def __init__(self, linker: Links, config: ServeConfig) -> None:
        self.linker, self.config = linker, config
        self.line = Line(linker, config.max_waiting, config.max_mentions, config.patience)
        self.thumbnails = Thumbnails()
        self.app = FastAPI(
            title="melcache serve",
            description="Links new mentions by a trained run.",
            telemetry=OFF,
            docs_url=None,  # these two pages load their scripts from elsewhere
            redoc_url=None,
            redirect_slashes=False,
            exception_handlers={
                HTTPException: refusals.on_http,
                RequestValidationError: on_invalid,
                MelcacheError: on_ours,
                Exception: refusals.on_failure,
            },
        )
        self.app.state.served, self.app.state.about = self, about(linker)
        self.app.include_router(api)
        schema.openapi(self.app.openapi(), config.max_mentions)  # which is kept, and shown
        self.gate = Gate(self.app, Hosts(config.host), config.max_request * MEGABYTE, config.patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        await self.gate(scope, receive, send)

    def close(self) -> None:
        """Let its threads end."""
        self.line.close()
        self.thumbnails.close()


def application(linker: Links, config: ServeConfig) -> Served:
    """Return the ASGI application that serves a linker."""
    return Served(linker, config)


def about(linker: Any) -> Mapping[str, Any]:
    """Return what strangers may know of a run: its name, not its folder."""
    told = linker.about
    return {"run": PurePath(told["run"]).name} | {
        name: told[name] for name in ("model", "dataset", "cache_id", "entities", "warnings")
    }


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the statuses of an address, with what they mean, for the schema."""
    return {status: {"model": Error, "description": WHY[status]} for status in statuses}


def served(request: Request) -> Served:
    """Return what a request is answered by."""
    found: Served = request.app.state.served
    return found


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answer what does not fit the schema."""
    assert isinstance(error, RequestValidationError)
    return refusals.response(request, 422, refusals.sentence_of(error.errors()))


async def on_ours(request: Request, error: Exception) -> Response:
    """Answer what the linker refuses: a mention that cannot be linked, or a fault of what is served."""
    assert isinstance(error, MelcacheError)
    if isinstance(error, QuestionError):
        return refusals.response(request, 422, error.text)
    say(f"error: {error.text}")  # it may name files: to who serves alone
    return await refusals.on_failure(request, error)


@api.post("/api/link", responses=errors(400, 408, 413, 415, 422, 429, 503), openapi_extra=schema.BODY)
async def link(request: Request) -> list[Answer]:
    """Link mentions: for each the best entities, with scores, probabilities and evidence."""
    here, question = served(request), await schema.question(request)
    if len(question.mentions) > here.config.max_mentions:
        raise Refusal(422, f"{len(question.mentions)} mentions at once, expected at most {here.config.max_mentions}")
    mentions = [asked.new_mention() for asked in question.mentions]
    links = await here.line.link(mentions, question.top, question.nil_below, _peer(request))
    return [answers.of_link(found) for found in links]


@api.get("/api/entity/{id:path}", responses=errors(404, 422))
async def entity(request: Request, id: Id) -> Entity:
    """Return an entity by its id."""
    return answers.of_entity(_card(request, id))


@api.get("/api/health")
async def health(request: Request) -> Health:
    """Say what is served."""
    return Health(status="ok", waiting=served(request).line.waiting, **request.app.state.about)


@api.get(
    "/picture/{id:path}",
    response_class=Response,
    responses=errors(404, 422, 503) | JPEG,
)
async def picture(request: Request, id: Id) -> Response:
    """Return an entity's picture, small and without what its file says beside."""
    card = _card(request, id)
    if card.picture is None:
        raise Refusal(404, "this entity has no picture here")
    data = await served(request).thumbnails.of(card.picture)
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


@api.get("/", response_class=HTMLResponse)
async def page(request: Request) -> Response:
    """Show the page."""
    return pages.shown(request)


@api.post("/", response_class=HTMLResponse, responses=PAGE_ERRORS, openapi_extra=form.BODY)
async def page_link(request: Request) -> Response:
    """Link the mention of the page's form, and show the page with the answer."""
    asked = await form.read(request)
    request.scope["filled"] = asked.filled
    if len(places := asked.places()) > 1:
        return pages.shown(request, asked.filled, places=places)
    [found] = await served(request).line.link([asked.new_mention()], form.TOP, asked.filled.nil_below, _peer(request))
    return pages.shown(request, asked.filled, answer=answers.of_link(found))


@api.get("/page/{name}", include_in_schema=False)
async def page_file(name: str) -> Response:
    """Return a file of the page."""
    if (found := pages.file(name)) is None:
        raise Refusal(404, refusals.SENTENCES[404])
    return found


def _peer(request: Request) -> str:
    return peer(request.client.host) if request.client else ""


def _card(request: Request, id: str) -> EntityCard:
    if (found := served(request).linker.entity(id)) is None:
        raise Refusal(404, "there is no entity with this id")
    return found
