"""The process that serves: a socket, uvicorn on it, and an end that is clean."""

import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn

from common import console
from common.errors import ConfigError
from link.records import NewMention
from serve.app import Served, application
from serve.config import ServeConfig
from serve.door.connections import connection_class
from serve.door.gate import ARRIVAL, is_loopback
from serve.line import Links

LAST = 5  # seconds that requests in hand may take when the server is told to end
OWN = 128  # descriptors beside those of connections: the cache, the release, a file in memory for each picture


class Server(uvicorn.Server):
    """uvicorn, which says where it is and ends without a word of its own at Ctrl-C or SIGTERM."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        console.show(f"open {self._address}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the server; uvicorn would raise them once more behind it."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at the second time without waiting for requests in hand."""
        self.force_exit, self.should_exit = self.should_exit, True


def bound(config: ServeConfig) -> socket.socket:
    """Return a socket that has its address, but does not listen yet.

    Raises ConfigError where it cannot be had, or not so many descriptors as there may be connections.
    """
    _let_descriptors(config.max_connections)
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {config.host}: there is no such address. Expected 127.0.0.1, for one") from None
    found = socket.socket(family)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise ConfigError(
            f"cannot listen on port {config.port} of {config.host}: {error.strerror}. "
            "Choose another --port, or 0 for a free one"
        ) from None
    return found


def _let_descriptors(connections: int) -> None:
    """Let the process have a descriptor for each connection: asyncio, out of them, does nothing but complain."""
    needed, (soft, hard) = connections + OWN, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"--max-connections {connections} takes {needed} descriptors, and this process may have {hard} "
            f"(ulimit -Hn). Lower it to {max(1, hard - OWN)}, or let the process have more"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def address_of(listening: socket.socket, host: str) -> str:
    """Return what a browser on this machine opens."""
    port = listening.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def warm(linker: Links) -> Links:
    """Link a mention, so that encoders and the release are loaded before anybody waits.  Raises MelcacheError."""
    linker.link([NewMention("warm", "warm")], top=1)
    return linker


def serve(linker: Links, config: ServeConfig, listening: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM."""
    if not is_loopback(config.host):
        console.tell(f"warning: {config.host} is not of this machine alone, and nobody is asked who he is")
    app = application(linker, config)
    try:
        Server(settings(app, config), address_of(listening, config.host)).run(sockets=[listening])
    finally:
        app.close()
        listening.close()


def settings(app: Served, config: ServeConfig) -> uvicorn.Config:
    """Return how uvicorn serves an application."""
    for name in ("uvicorn.error", "python_multipart"):  # not a line for each request that is no HTTP, or no form
        logging.getLogger(name).setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=connection_class(config.patience + 2 * ARRIVAL, config.max_connections, config.max_connections_each),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who asks says himself in them who he is
        server_header=False,
        timeout_graceful_shutdown=LAST,
    )
