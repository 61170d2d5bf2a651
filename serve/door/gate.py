"""Who may ask, how much, and how long it may take; of a request that passes the whole body is in memory."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import refusals
from serve.door.body import COPIES, Body
from serve.refusals import Refusal

MEGABYTE = 1_000_000
MOST_HEAD = 16_384  # bytes of an address and headers
HELD = 16  # times the largest body: what all that are in memory may take, with the copies that are made of them
ARRIVAL = 20.0  # seconds in which a body arrives, and a refused one is let run out
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # no-referrer would send `Origin: null` with the page's own form
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ip_address(name).is_loopback
    return False


@dataclass(frozen=True)
class Hosts:
    """The names that a server listening on `given` is asked by; by others strange pages ask (DNS rebinding)."""

    given: str

    def has(self, host: str) -> bool:
        """Return whether a Host header, with its port or without, names this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if is_loopback(name) or name == self.given.strip("[]").lower():
            return True
        return self.given.strip("[]") in ("0.0.0.0", "::") and _is_address(name)  # a page cannot rebind an address


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ip_address(name))
    return False


class Gate:
    """An ASGI application that refuses, or hands on with the whole body."""

    def __init__(self, app: ASGIApp, hosts: Hosts, max_body: int, patience: float) -> None:
        self.app, self._hosts, self._max_body, self._patience = app, hosts, max_body, patience
        self._bodies: set[Body] = set()

    @property
    def held(self) -> int:
        """Bytes that the bodies in memory take, with their copies."""
        return sum(body.memory for body in self._bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        scope["app"] = self.app
        request, send = Request(scope, receive), _guarded(send)
        body = Body()
        self._bodies.add(body)
        try:
            _check_head(scope)
            self._check_names(request)
            await self._read(request, receive, body)
            await self._pass(scope, body, receive, send)
        except Refusal as refusal:
            await refusals.response(request, refusal.status_code, refusal.detail, dict(refusal.headers or {}))(
                scope, receive, send
            )
        except _GoneError:
            pass
        finally:
            self._bodies.remove(body)

    def _check_names(self, request: Request) -> None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.has(hosts[0]):
            raise Refusal(421, "this server is asked by another name: open the address that it printed")
        origin = request.headers.get("origin")
        if origin is not None and not _same(origin, hosts[0]):
            raise Refusal(403, "a page of another site may not ask this server")

    async def _read(self, request: Request, receive: Receive, body: Body) -> None:
        """Add what arrives to the body.  Raises Refusal: 413, 408, or 503 where others hold all the memory.

        What is refused is let run out: who sends does not read yet, and would miss the answer.
        """
        declared = request.headers.get("content-length", "0")
        size = int(declared) if declared.isdecimal() and len(declared) < 16 else self._max_body + 1
        refused = self._refusal(size, 0)
        try:
            async with asyncio.timeout(ARRIVAL):
                async for chunk in _chunks(receive):
                    refused = refused or self._refusal(body.size + len(chunk), COPIES * len(chunk))
                    if refused is None:
                        body.add(chunk)
                    else:
                        body.clear()
        except TimeoutError:
            raise refused or Refusal(408, f"the request did not arrive within {ARRIVAL:g} s") from None
        if refused is not None:
            raise refused

    def _refusal(self, size: int, more: int) -> Refusal | None:
        """Return why a body of this size, which takes `more` memory than before, is refused; None if it is not."""
        if size > self._max_body:
            most = self._max_body // MEGABYTE
            return Refusal(413, f"the request is larger than {most} MB: ask for less, or send smaller pictures")
        if self.held + more > HELD * self._max_body:
            return Refusal(503, "other requests hold all the memory there is for bodies: try again later", 1)
        return None

    async def _pass(self, scope: Scope, body: Body, receive: Receive, send: Send) -> None:
        """Let the application answer; who has gone, or does not read the answer, ends it."""
        begun, more = asyncio.Event(), True

        async def replay() -> Message:
            nonlocal more
            if not more:
                return await asyncio.Future()  # that the client goes is seen below
            piece, more = body.take()
            return {"type": "http.request", "body": piece, "more_body": more}

        async def noting(message: Message) -> None:
            begun.set()
            await send(message)

        answered = asyncio.ensure_future(self.app(scope, replay, noting))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            done, _ = await asyncio.wait(
                {answered, gone}, timeout=self._patience + ARRIVAL, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (answered, gone):
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answered
        if answered.cancelled() and not gone.cancelled() and gone in done:
            raise _GoneError
        if answered.cancelled() and not begun.is_set():
            raise Refusal(503, "the answer takes too long: ask for fewer mentions at once, or later", 1)


def _check_head(scope: Scope) -> None:
    fields = [
        scope.get("raw_path") or b"",
        scope["query_string"],
        *(part for pair in scope["headers"] for part in pair),
    ]
    if (found := sum(map(len, fields))) > MOST_HEAD:
        raise Refusal(431, f"address and headers have {found:,} bytes, expected at most {MOST_HEAD:,}")


class _GoneError(Exception):
    """The client went."""


def _same(origin: str, host: str) -> bool:
    """Return whether an origin is that of pages which a Host header names, port and all.

    A proxy may encrypt in front of us: then the origin is https, and a host without a port means its 443.
    """
    scheme, _, authority = origin.lower().partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    return port is not None and authority.removesuffix(port) == host.lower().removesuffix(port)


async def _chunks(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _guarded(send: Send) -> Callable[[Message], Coroutine[Any, Any, None]]:
    """Return a `send` that adds the headers which let a browser do nothing but what the page needs."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return guarded
