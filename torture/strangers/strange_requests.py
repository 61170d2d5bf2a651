"""Requests of strangers to a server: bytes, HTTP, JSON, forms and addresses changed at random, and clients that go."""

import contextlib
import json
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import CacheError
from link.records import Candidate, EntityCard, Link, NewMention
from torture.tiny_cache import Result

EXPECTED = (200, 400, 403, 404, 405, 408, 413, 415, 421, 422, 431)
MAY_WAIT = ("bytes", "http")  # for what never comes: no answer is none too
WAIT = 0.3  # seconds for those
LOOK = 100  # cases between looks at whether a good request is answered
GROWTH = 200  # MB: bodies of 2 MB that are in memory and read, and what malloc keeps
FAILS = "refuse"  # what the linker fails at
TEXTS = (
    "\x00",
    "\u202e",
    "\ufeff",
    "\U0010ffff",
    "e\u0301",
    "{{7*7}}",
    "<svg onload=alert(1)>",
    "../../etc",
    "%00",
    "مرحبا",
    FAILS,
)
IDS = (
    "..",
    "../x",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "Q0%00",
    "//",
    "%ff",
    "%ed%a0%80",
    "%252e",
    "a" * 501,
    "%0d%0aX: y",
    "Q0",
)
PIECES = (
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"9" * 400,
    b"null",
    b'"',
    b"{}",
    b"[" * 2_000,
    b"\xff",
    b"\r\n",
    b"--x",
    b"\x00",
    b";",
)
HEADS = (
    b"host: evil.example", b"origin: null", b"origin: http://evil.example", b"transfer-encoding: gzip", b"upgrade: h2c",
    b"content-length: 5", b"x: " + b"y" * 20_000, b"cookie: " + b"a" * 15_000, b"range: bytes=0-", b"expect: 200-ok",
)  # fmt: skip


class Echo:
    """A linker that finds the mention itself, and fails, with a path in its words, where the text asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.about: dict[str, Any] = {"run": "torture", "model": "none", "dataset": "torture", "cache_id": "0" * 64}
        self.about |= {"entities": 1, "warnings": []}

    def entity(self, id: str) -> EntityCard | None:
        """Return the one entity."""
        return EntityCard("Q0", "<b>", picture=self._folder / "none.jpg") if id == "Q0" else None

    def link(self, mentions: Sequence[NewMention], *, top: int = 10, nil_below: float = 0.0) -> list[Link]:
        """Return the answers."""
        if any(FAILS in mention.text for mention in mentions):
            raise CacheError(f"{self._folder / 'entity.h5'} or file://{self._folder}: failed")
        card = EntityCard("Q0", "<b>")
        return [
            Link(asked, asked.mention, 0, 1, (Candidate(card, 1.0, 1.0, {"string": 1.0}),), False, "none")
            for asked in mentions
        ]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Yield the port of a server that runs in a thread of this process."""
    import uvicorn  # not for who tries something else

    from serve import server
    from serve.app import application
    from serve.config import ServeConfig

    config = ServeConfig(folder, port=0, max_request=2)
    listening = server.bound(config)
    with contextlib.closing(application(Echo(folder), config)) as app:
        served = uvicorn.Server(server.settings(app, config))
        thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]})
        thread.start()
        while thread.is_alive() and not served.started:
            time.sleep(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            served.should_exit = True
            thread.join()


def run(scratch: Path, count: int, seed: int) -> Result:
    """Send so many requests: each is answered as documented, without a path, and the next good one is answered well."""
    result = Result("requests")
    with serving(scratch) as port:
        _good(port, result, "at first")
        files, memory = len(os.listdir("/proc/self/fd")), _megabytes()
        for case in range(count):
            rng = random.Random(f"{seed} {case}")
            kind = rng.choice(tuple(KINDS))
            data = KINDS[kind](rng)
            answer = _sent(port, data, WAIT if kind in MAY_WAIT else 20, gone=kind == "gone")
            result.case()
            result.count(kind)
            fails = FAILS.encode() in data
            if kind != "gone" and (problem := _problem(answer, str(scratch), silent=kind in MAY_WAIT, fails=fails)):
                result.fail(f"case {case} of seed {seed}, {kind}: {problem}")
            if case % LOOK == LOOK - 1:
                _good(port, result, f"behind case {case}")
        _good(port, result, "at last")
        if (more := len(os.listdir("/proc/self/fd")) - files) > 20:  # of connections that are being closed
            result.fail(f"{more} files more are open")
        result.most("MB more", _megabytes() - memory)
        if _megabytes() - memory > GROWTH:
            result.fail(f"{_megabytes() - memory} MB more are used")
    return result


def _good(port: int, result: Result, when: str) -> None:
    answer = _sent(port, _request("/api/link", json.dumps(_ASKED).encode()), 20)
    if not answer.startswith(b"HTTP/1.1 200 "):
        result.fail(f"{when}: a good request is answered {answer[:100]!r}")


def _problem(answer: bytes, folder: str, *, silent: bool, fails: bool) -> str:
    """Return what is wrong with an answer, "" if nothing is; `silent`: there may be none, `fails`: it may be 500."""
    if not answer:
        return "" if silent else "no answer"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head[9:12]) if head[9:12].isdigit() else 0
    if status not in EXPECTED and not (fails and status == 500):
        return f"status {status}"
    if folder.encode() in answer or b"Traceback" in answer:
        return f"it tells of this machine: {answer[-300:]!r}"
    if status == 200 or not body:  # HEAD has none
        return ""
    if b"text/html" in head:
        return "" if b'role="alert"' in body else "a page without the error"
    try:
        told = json.loads(body)
    except ValueError:
        return f"an error that is no JSON: {body[:100]!r}"
    return "" if list(told) == ["error"] and "\n" not in told["error"] else f"another form: {body[:100]!r}"


def _sent(port: int, data: bytes, wait: float, *, gone: bool = False) -> bytes:
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 20) as connection:
        with contextlib.suppress(ConnectionError):  # it may have hung up already, and answered
            connection.sendall(data)
        found = b""
        connection.settimeout(wait)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while not gone and (part := connection.recv(1 << 16)):
                found += part
        return found
    return b""


_ASKED: dict[str, Any] = {
    "mentions": [{"text": "a b", "mention": "a", "start": 0, "id": "m", "image": "AAAA"}],
    "top": 3,
}
_FORM = (
    b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)
        for name, more, value in (
            (b"text", b"", b"a b"),
            (b"mention", b"", b"a"),
            (b"nil_below", b"", b"0"),
            (b"image", b'; filename="a"', b"\x89PNG"),
        )
    )
    + b"--x--\r\n"
)


def _request(
    path: str, body: bytes = b"", kind: str = "application/json", method: str = "POST", head: bytes = b""
) -> bytes:
    first = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: {kind}\r\n"
    return first.encode("latin-1", "replace") + head + f"content-length: {len(body)}\r\n\r\n".encode() + body


def _changed(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, kind = rng.randrange(len(found)), rng.random()
        if kind < 0.4:
            found[at] = rng.randrange(256)
        elif kind < 0.7:
            found[at:at] = rng.choice(PIECES)
        else:
            del found[at : min(at + rng.randint(1, 9), len(found) - 1)]
    return bytes(found)


def _bomb(rng: random.Random) -> bytes:
    one, length = (
        rng.choice((b"[", b'{"a":', b"9", b"1,", b"[],", b'"', b"\x00")),
        rng.choice((10, 1_000, 100_000, 2_500_000)),
    )
    return _request("/api/link", (one * length)[:2_500_000])


def _text(rng: random.Random) -> bytes:
    text, mention = (rng.choice(TEXTS) * rng.choice((1, 3, 2_000)) for _ in range(2))
    asked = [{"text": text + mention, "mention": mention}] * rng.choice((1, 2, 64, 65))
    return _request("/api/link", json.dumps({"mentions": asked}).encode())


def _address(rng: random.Random) -> bytes:
    path = rng.choice(("/api/entity/", "/picture/", "/page/", "/", "/api/")) + rng.choice(IDS)
    return _request(path, method=rng.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")))


KINDS = {
    "bytes": lambda rng: rng.randbytes(rng.randint(1, 3_000)) + b"\r\n\r\n",
    "http": lambda rng: _changed(_request("/api/link", json.dumps(_ASKED).encode()), rng),
    "json": lambda rng: _request("/api/link", _changed(json.dumps(_ASKED).encode(), rng)),
    "bomb": _bomb,
    "text": _text,
    "form": lambda rng: _request("/", _changed(_FORM, rng), "multipart/form-data; boundary=x"),
    "address": _address,
    "head": lambda rng: _request("/api/link", json.dumps(_ASKED).encode(), head=rng.choice(HEADS) + b"\r\n"),
    "gone": lambda rng: (data := _request("/api/link", json.dumps(_ASKED).encode()))[: rng.randrange(1, len(data) + 1)],
}


def _megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_000
