"""`python -m bench.service.serving --run R --data FILE`: mentions a second and waits of `melcache serve` on loopback.

Each client asks again as soon as it is answered, from an address of its own (127.1.x.y). Each mention is new: a number
stands before its sentence, so that no stored vectors are taken. Figures: docs/guides/serve.md.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import console

ROOT = Path(__file__).parents[2]
CLIENTS = (1, 8, 64)
OVERLOAD = 400  # clients, where 256 mentions may wait


def main() -> None:
    """Start a server, measure it, print a table as JSON, and end the server."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.service.serving", epilog="Other options are those of melcache serve."
    )
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with text, start and end")
    parser.add_argument("--seconds", type=float, default=30, help="of each number of clients")
    given, options = parser.parse_known_args()
    mentions = [json.loads(line) for line in given.data.read_text().splitlines()]
    command = [sys.executable, "-m", "melcache", "serve", "--port", "0", *options]
    begun = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as served:
        try:
            said = served.stdout.readline() if served.stdout else ""
            if not said.startswith("open "):
                raise SystemExit("melcache serve did not start")
            found: dict[str, Any] = {"start_s": round(time.monotonic() - begun, 1), "load": os.getloadavg()[0]}
            ask = Asking(int(said.rpartition(":")[2]), served.pid, mentions)
            found["clients"] = [asyncio.run(ask.measure(count, given.seconds)) for count in CLIENTS]
            found["overload"] = asyncio.run(ask.measure(OVERLOAD, given.seconds))
        finally:
            served.send_signal(signal.SIGTERM)
    console.show_json(found)


class Asking:
    """Asks a server from many clients at once."""

    def __init__(self, port: int, pid: int, mentions: list[dict[str, Any]]) -> None:
        self._port, self._pid, self._bodies = port, pid, _bodies(mentions)

    async def measure(self, clients: int, seconds: float) -> dict[str, Any]:
        """Return mentions a second, waiting times in ms, answers by status, and MB of the server at most."""
        ends = time.monotonic() + seconds
        took: dict[int, list[float]] = {}
        memory = asyncio.create_task(self._largest(ends))
        await asyncio.gather(*(self._client(number, ends, took) for number in range(clients)))
        answered = np.array(took.get(200, [np.nan])) * 1000
        refused = np.array([value for status, values in took.items() if status != 200 for value in values]) * 1000
        row = {
            "clients": clients,
            "mentions_per_s": round(len(took.get(200, [])) / (time.monotonic() - ends + seconds), 1),
            "p50_ms": round(float(np.percentile(answered, 50))),
            "p99_ms": round(float(np.percentile(answered, 99))),
            "answers": dict(Counter({status: len(values) for status, values in sorted(took.items())})),
            "MB": await memory,
        }
        return row | ({"refused_p99_ms": round(float(np.percentile(refused, 99)))} if len(refused) else {})

    async def _client(self, number: int, ends: float, took: dict[int, list[float]]) -> None:
        own = (f"127.1.{number // 250}.{number % 250 + 1}", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=own)
        while time.monotonic() < ends:
            begun = time.monotonic()
            body = next(self._bodies)
            writer.write(
                b"POST /api/link HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            status, wait = await _answer(reader)
            took.setdefault(status, []).append(time.monotonic() - begun)
            await asyncio.sleep(
                min(wait, 1)
            )  # of a second refused, not more: a client that is told when, but impatient
        writer.close()

    async def _largest(self, ends: float) -> int:
        found = 0
        while time.monotonic() < ends:
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            found = max(found, pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000)
            await asyncio.sleep(0.2)
        return found


async def _answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read an answer; return its status and the seconds of its Retry-After."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1]), int(fields.get("retry-after", 0))


def _bodies(mentions: list[dict[str, Any]]) -> Iterator[bytes]:
    """Yield requests without end: a mention each, none of them twice."""
    for number, mention in enumerate(itertools.cycle(mentions)):
        before = f"{number}. "
        start, end = (mention[where] + len(before) for where in ("start", "end"))
        asked = {"text": before + mention["text"], "mention": mention["text"][mention["start"] : mention["end"]]}
        yield json.dumps({"mentions": [asked | {"start": start, "end": end}]}).encode()


if __name__ == "__main__":
    main()
