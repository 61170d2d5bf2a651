"""Connections of clients that are slow, many, or speak no HTTP: uvicorn itself lets them stay as long as they like."""

import json
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.door.peers import peer

HEAD = 10.0  # seconds in which a request's head arrives
LOOK = 2.0  # seconds between looks at a connection


class Connection(H11Protocol):
    """A connection of a client, with bounds.

    `most` connections at once, `each` of one peer; a request takes `patience` seconds in all.
    """

    patience: float
    most: int
    each: int

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self.peer = peer(self.client[0]) if self.client else ""
        own = sum(getattr(other, "peer", None) == self.peer for other in self.connections)
        if own > self.each:
            told = f"{self.each} connections of your address are open: wait for their answers"
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, told)
        elif len(self.connections) > self.most:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.most} connections are open: try again later")
        else:
            self._timer = self.loop.call_later(LOOK, self._look)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not (self.cycle and self.cycle.response_started):
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request that can be read")
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer without having read the request, and hang up."""
        body = json.dumps({"error": sentence}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _look(self) -> None:
        """Hang up on who has not sent a whole head in time, or does not take the answer."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.loop.time() - self._since > (self.patience if answering else HEAD):
            self.transport.abort()
        elif self in self.connections:
            self.loop.call_later(LOOK, self._look)


def connection_class(patience: float, most: int, each: int) -> type[Connection]:
    """Return uvicorn's connection with bounds: at most so many at once, and `each` of one peer.

    A request that takes more than `patience` seconds in all is cut off.
    """
    return type("BoundedConnection", (Connection,), {"patience": patience, "most": most, "each": each})
