"""`melcache describe`: the first paragraphs of Wikipedia's articles on a release's entities.

An entity whose id is Wikidata's is found by it: 50 ids a request give the titles of their articles. Any other is
asked for by its name. 20 titles a request give the texts before the first heading; the server normalizes titles and
follows redirects. 18,880 ids (WikiMEL) are some 1,320 requests, 22 minutes at one a second.

    {"licence": "Creative Commons Attribution-Share Alike 4.0", "source": "https://en.wikipedia.org/w/api.php"}
    {"entity": "Q90", "title": "Paris", "revision": 1234, "text": "Paris is the capital ..."}
    {"entity": "Q2", "missing": "no article"}

are the lines of the file, which --descriptions reads. Each request appends its lines and syncs them, so a kill loses
one request; entities that stand there are not asked again.
"""

import re
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

from common import console
from common.errors import NetworkError
from common.foreign import printable
from common.output import Progress, duration
from common.records import Entity
from extract import datasets
from extract.describe.config import DescribeConfig
from extract.describe.output_file import OutputFile, Record
from extract.describe.wikipedia import UnansweredError, Wiki

ID = re.compile(r"Q[1-9]\d{0,8}")  # one id that Wikidata cannot parse fails all of its request
NO_TITLE = re.compile(r"[\x00-\x1f\x7f#<>\[\]{|}]|^$")  # what no title holds; "|" would separate two
TITLE_BYTES = 255
IDS, TITLES = 50, 20  # the most that one request takes
QUERY_BYTES = 6000  # of titles in one request: servers refuse addresses of more than 8 kB
GIVE_UP = 3  # requests in a row that stayed unanswered
EXTRACTS = {
    "action": "query",
    "prop": "extracts|pageprops|info",
    "exintro": "1",
    "explaintext": "1",
    "exlimit": str(TITLES),
    "ppprop": "disambiguation",
    "redirects": "1",
}


def run(config: DescribeConfig, pause: Callable[[float], object] = time.sleep) -> None:
    """Fetch what `config.out` lacks, and print in one line what that gave.  `pause` is time.sleep but in tests.

    Raises NetworkError if not every entity was answered; what was answered is in the file.
    """
    start = time.monotonic()
    release = datasets.load(config.dataset, config.source)
    wanted = [entity for entity in release.entities if not entity.description][: config.limit]
    wiki = Wiki(config.contact, config.rate, config.timeout, pause)
    with OutputFile(config.out) as file:
        todo = [entity for entity in wanted if not file.hold(entity)]
        with Progress(len(wanted), "describe", "entities", len(wanted) - len(todo)) as progress:
            fetch = Fetch(config, wiki, file, progress.advance)
            try:
                fetch.all(todo)
            finally:
                seconds = duration(time.monotonic() - start)
                done = f"{fetch.summary()}, {seconds}, {wiki.requests:,} requests. {file.summary()}"
                console.show(printable(done))
    if fetch.failed:
        raise NetworkError(
            f"{fetch.failed:,} entities got no answer (last: {fetch.reason}). Run the same command to ask for "
            "them again"
        )


class Fetch:
    """One run: ids wait for their titles, titles wait for their texts, until every entity has a line or has failed."""

    def __init__(self, config: DescribeConfig, wiki: Wiki, file: OutputFile, advance: Callable[[int], None]) -> None:
        self._config, self._wiki, self._file, self._advance = config, wiki, file, advance
        self._ids: deque[str] = deque()
        self._titles: deque[tuple[str, list[Record]]] = deque()  # a title, and the beginnings of its entities' records
        self._counts: Counter[str] = Counter()
        self._unanswered = 0  # requests in a row
        self.failed = 0
        self.reason = ""

    def summary(self) -> str:
        """Return what came of the entities that were asked for."""
        missing = Counter({reason: count for reason, count in self._counts.items() if reason})
        reasons = f" ({', '.join(f'{reason} {count:,}' for reason, count in missing.most_common())})" if missing else ""
        return f"fetched {self._counts['']:,}, missing {missing.total():,}{reasons}, failed {self.failed:,}"

    def all(self, entities: list[Entity]) -> None:
        """Ask for all entities.  Raises NetworkError where the server refuses, or stays silent."""
        if not entities:
            return
        self._site = self._begin()
        named: dict[str, list[Record]] = {}
        for entity in entities:
            if self._config.by == "auto" and ID.fullmatch(entity.id):
                self._ids.append(entity.id)
            else:
                title = unicodedata.normalize("NFC", entity.name).strip()
                named.setdefault(title, []).append({"entity": entity.id, "name": entity.name})
        no_titles = [title for title in named if NO_TITLE.search(title) or len(title.encode()) > TITLE_BYTES]
        self._record(record | {"missing": "no title"} for title in no_titles for record in named.pop(title))
        self._titles.extend(named.items())
        while self._ids or self._titles:
            if self._ids and len(self._titles) < TITLES:
                ids = [self._ids.popleft() for _ in range(min(IDS, len(self._ids)))]
                self._attempt(self._link, {id: [{"entity": id}] for id in ids})
            else:
                self._attempt(self._describe, self._next_titles())

    def _begin(self) -> str:
        """Ask the wiki its name and its license, note them in the file, and return the name ("enwiki")."""
        url = self._config.wikipedia
        answer = self._wiki.ask(url, {"action": "query", "meta": "siteinfo", "siprop": "general|rightsinfo"})
        with _understood(url):
            site, license = answer["query"]["general"]["wikiid"], answer["query"]["rightsinfo"].get("text")
        self._file.begin({"licence": license or "unknown", "source": url})
        return site

    def _next_titles(self) -> dict[str, list[Record]]:
        batch: dict[str, list[Record]] = {}
        size = 0
        while self._titles and len(batch) < TITLES:
            title, records = self._titles[0]
            size += len(quote_plus(f"|{title}"))
            if batch and size > QUERY_BYTES:
                break
            batch.setdefault(title, []).extend(records)
            self._titles.popleft()
        return batch

    def _attempt(self, ask: Callable[[dict[str, list[Record]]], int], batch: dict[str, list[Record]]) -> None:
        """Send one request; an answer may leave some of the batch out."""
        try:
            left_out = ask(batch)
            self._unanswered = 0
            self._fail(left_out, "an answer that left them out")
        except UnansweredError as error:
            self._unanswered += 1
            self._fail(sum(map(len, batch.values())), str(error))
            if self._unanswered == GIVE_UP:
                raise NetworkError(
                    f"{GIVE_UP} requests in a row got no answer. {error}. What was answered is in "
                    f"{self._config.out}; run the same command to continue"
                ) from None

    def _fail(self, count: int, reason: str) -> None:
        if count:
            self.failed += count
            self.reason = reason

    def _link(self, batch: dict[str, list[Record]]) -> int:
        """Put the titles of articles on Wikidata's ids in line; return how many the answer left out."""
        parameters = {"action": "wbgetentities", "ids": "|".join(batch), "props": "sitelinks", "sitefilter": self._site}
        answer = self._wiki.ask(self._config.wikidata, parameters)
        found: dict[str, str | None] = {}
        with _understood(self._config.wikidata):
            for key, item in answer["entities"].items():
                link = (item.get("sitelinks") or {}).get(self._site)  # an empty mapping may come as []
                for id in (key, item["id"], item.get("redirects", {}).get("from")):  # merged items name both
                    found[id] = (link["title"] or None) if link else None
        self._titles.extend((found[id], records) for id, records in batch.items() if found.get(id))
        self._record({**batch[id][0], "missing": "no article"} for id in batch if found.get(id, "") is None)
        return len(batch.keys() - found.keys())

    def _describe(self, batch: dict[str, list[Record]]) -> int:
        """Record the texts of titles; return how many entities the answer left out."""
        pages: dict[str, dict[str, Any]] = {}
        steps: dict[str, dict[str, str]] = {}
        for answer in self._wiki.pages(self._config.wikipedia, EXTRACTS | {"titles": "|".join(batch)}):
            with _understood(self._config.wikipedia):
                query = answer["query"]
                steps |= {step["from"]: step for kind in ("normalized", "redirects") for step in query.get(kind, [])}
                for page in query.get("pages", []):
                    pages.setdefault(page["title"], {}).update(page)
                pages |= {link["title"]: {"missing": True} for link in query.get("interwiki", [])}
        there = [page for page in pages.values() if not page.keys() & {"missing", "invalid"}]
        if there and not any("extract" in page for page in there):
            raise UnansweredError(
                f"{self._config.wikipedia} gave no extracts. Does it have the extension TextExtracts?"
            )
        left_out, found = 0, []
        for title, records in batch.items():
            fragment, seen = "", set()
            while (step := steps.get(title)) and title not in seen:
                seen.add(title)
                title, fragment = step["to"], step.get("tofragment", fragment)
            if title in pages:
                found += [record | _told(pages[title], fragment, self._config.loose) for record in records]
            else:
                left_out += len(records)
        self._record(found)
        return left_out

    def _record(self, records: Iterable[Record]) -> None:
        records = list(records)
        self._file.append(records)
        self._counts.update(record.get("missing", "") for record in records)
        self._advance(len(records))


@contextmanager
def _understood(url: str) -> Iterator[None]:
    """Turn what goes wrong in reading an answer of another form into an UnansweredError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UnansweredError(f"{url} did not answer as api.php of MediaWiki 1.35 does ({what})") from error


def _told(page: dict[str, Any], fragment: str, loose: bool) -> Record:
    """Return what the file holds of an article: its text, or why there is none."""
    if "missing" in page or "invalid" in page:
        return {"missing": "no article"}
    about = {"title": page["title"], "revision": page.get("lastrevid")}
    text = page.get("extract", "").strip()
    if "disambiguation" in page.get("pageprops", {}) and not loose:
        return about | {"missing": "disambiguation"}
    if fragment and not loose:
        return about | {"missing": "a section only"}
    return about | ({"text": text} if text else {"missing": "no text"})
