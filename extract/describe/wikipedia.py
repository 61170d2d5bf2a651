"""A polite client of MediaWiki's action API: one request at a time, paced, identified, patient.

After https://www.mediawiki.org/wiki/API:Etiquette, .../Manual:Maxlag_parameter and Wikimedia's User-Agent policy.
"""

import email.utils
import gzip
import http.client
import importlib.metadata
import json
import platform
import random
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from common.errors import NetworkError
from common.output import duration, say

TRIES = 8  # of one request; the pauses between them add up to about two minutes
LONGEST_PAUSE = 60.0  # seconds, where the server names none
LONGEST_WAIT = 600.0  # seconds that a server may ask for before we rather stop
MAX_LAG = 5  # seconds: what Wikimedia recommends for work that nobody waits for
BUSY = ("maxlag", "ratelimited", "readonly")  # errors of the API that pass
PASSING = (408, 429, 500, 502, 503, 504)
_CUT = (OSError, EOFError, http.client.HTTPException, zlib.error, ValueError)  # half answers, no answers, no JSON


class UnansweredError(NetworkError):
    """One request has no answer, or not the one it should have; others may still be answered."""


class Wiki:
    """One client; `requests` counts what it sent.

    `contact` goes into the User-Agent. At most `rate` requests a second begin. `pause` is time.sleep but in tests.
    """

    def __init__(self, contact: str, rate: float, timeout: float, pause: Callable[[float], object] = time.sleep):
        version, python = importlib.metadata.version("melcache"), platform.python_version()
        self._headers = {
            "User-Agent": f"melcache/{version} ({contact}) python-urllib/{python}",
            "Accept-Encoding": "gzip",
        }
        self._interval, self._timeout, self._pause = 1 / rate, timeout, pause
        self._next = time.monotonic()
        self.requests = 0

    def pages(self, url: str, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the answers to a query and to its continuations."""
        more: dict[str, str] = {}
        while True:
            answer = self.ask(url, {**parameters, **more})
            yield answer
            if (following := answer.get("continue")) is None:
                return
            if following == more:
                raise UnansweredError(f"{url} never ends a query: it repeats {following!r}")
            more = following

    def ask(self, url: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return the JSON answer to one request.

        What passes (429, 5xx, maxlag, a cut connection, no answer in time) is tried again: after what Retry-After
        says, else after 1, 2, 4, ... seconds, each shortened at random so that clients do not come back together.
        Raises UnansweredError if all of that is in vain, and for any other error of the API; NetworkError where the
        server refuses us altogether.
        """
        query = {"format": "json", "formatversion": "2", "maxlag": str(MAX_LAG), **parameters}
        request = urllib.request.Request(f"{url}?{urlencode(query)}", headers=self._headers)
        for attempt in range(TRIES):
            self._keep_pace()
            answer, reason, wanted = self._once(request)
            if answer is not None:
                return answer
            if wanted > LONGEST_WAIT:
                raise NetworkError(f"{url} asks to wait {duration(wanted)} ({reason}). Run the same command again then")
            wait = max(wanted, min(2.0**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1))
            if attempt < TRIES - 1:
                say(f"{url}: {reason}; again in {duration(wait)}")
                self._pause(wait)
        raise UnansweredError(f"{url} did not answer {TRIES} times, last: {reason}")

    def _keep_pace(self) -> None:
        now = time.monotonic()
        if self._next > now:
            self._pause(self._next - now)
        self._next = max(now, self._next) + self._interval
        self.requests += 1

    def _once(self, request: urllib.request.Request) -> tuple[dict[str, Any] | None, str, float]:
        """Return the answer; or None, why there is none, and the seconds that the server wants us to wait."""
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                packed, headers = response.read(), response.headers
            raw = gzip.decompress(packed) if headers.get("Content-Encoding") == "gzip" else packed
            answer = json.loads(raw)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code not in PASSING:
                    raise NetworkError(f"{request.full_url.partition('?')[0]} refuses: {reason}") from None
                return None, reason, _retry_after(error.headers.get("Retry-After"))
        except _CUT as error:
            why = getattr(error, "reason", error)  # of a URLError, which says nothing itself
            return None, f"{type(why).__name__}: {' '.join(str(why).split())[:200]}", 0
        error = answer.get("error") if isinstance(answer, dict) else {"code": "no object", "info": str(answer)[:60]}
        if not error:
            return answer, "", 0
        reason = f"{error.get('code')}: {error.get('info')}"
        if error.get("code") in BUSY or str(error.get("code")).startswith("internal_api_error"):
            return None, reason, _retry_after(headers.get("Retry-After"))
        raise UnansweredError(f"{request.full_url.partition('?')[0]} refuses: {reason}")


def _retry_after(header: str | None) -> float:
    """Return the seconds that Retry-After names, as a number or as a date; 0 without one."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return min(float(header), 1e9)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:  # neither
        return 0.0
