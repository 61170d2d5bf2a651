"""`--descriptions` files against a naive matcher, and `describe` against a stand-in of MediaWiki's API.  No network."""

import errno
import gzip
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError, DatasetError, NetworkError
from common.records import Dataset, Entity
from extract.cli import app
from extract.datasets import load
from extract.describe import articles, output_file, wikipedia
from extract.describe.config import DescribeConfig
from extract.reading import descriptions
from tests.worlds import write_release

ROOT = Path(__file__).parents[2]


def world(*entities):
    return Dataset("world", [], [Entity(*entity) for entity in entities], "MIT", counts={"captions": 3})


CITIES = world(("Q90", "Paris"), ("Q64", "Berlin"), ("Q1", "Super-G"), ("Q2", "New York", "a city", None, "old text"))


def given(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(dataset):
    return {entity.id: entity.description for entity in dataset.entities if entity.description}


# --- formats

PAIRS = {"Q90": "Paris is a city.", "New_York": "So is\tthis."}
LINES = "".join(json.dumps({"entity": name, "text": text}) + "\n" for name, text in PAIRS.items())
FORMATS = {
    "d.jsonl": LINES,
    "d.json": json.dumps(PAIRS),
    "d.tsv": "".join(f"{name}\t{text}\n" for name, text in PAIRS.items()),
    "wikipedia_entity2desc_filtered.tsv": "".join(f"{name}@@@@{text}\n" for name, text in PAIRS.items()),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_descriptions(tmp_path, name, packed):
    content = b"\xef\xbb\xbf" + FORMATS[name].encode()
    path = given(tmp_path, name + ".gz" * packed, gzip.compress(content) if packed else content)
    described = descriptions.add(CITIES, path)
    assert texts(described) == {"Q90": "Paris is a city.", "Q2": "So is\tthis."}
    assert described.counts == {
        "captions": 3,
        "descriptions given": 2,
        "descriptions used": 2,
        "entities without a description": 2,
    }
    assert texts(CITIES) == {"Q2": "old text"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", LINES + '{"entity": "Q1"}', r"line 3: text must be a string, found None"),
        ("d.jsonl", LINES + '\n{"text": "x"}', r"line 4: entity must be a string"),
        ("d.jsonl", LINES + '{"entity": "Q1", "txt": "x"}', r"line 3: unknown field 'txt', expected: entity, text, "),
        ("d.jsonl", LINES + '{"entity": "Q1", "te', r"line 3 is not JSON"),
        ("d.jsonl", LINES + "[]", r"line 3: a record must be a mapping"),
        ("d.jsonl", LINES.encode() + b'{"entity": "\xe9"}', r"line 3 is not UTF-8"),
        ("d.jsonl", '{"licence": "CC0", "source": 3}', r"line 1: source must be a string, found 3"),
        ("d.json", '{"Q1": ["x"]}', r"the text of 'Q1' must be a string"),
        ("d.json", '{"Q1": "x", "Q1": "y"}', r"key 'Q1' appears twice"),
        ("d.tsv", FORMATS["d.tsv"] + "Q1 x\n", r"line 3: expected entity<TAB>text .* found 'Q1 x\\n'"),
        ("d.tsv.gz", gzip.compress(FORMATS["d.tsv"].encode() * 99, mtime=0)[:-9], r"cannot be read"),
        ("d.txt", "", r"expected a file named \.jsonl, \.json or \.tsv"),
        ("d.tsv", "Rome\tx\nOslo\ty", r"describes no entity of world: its first of 2 is 'Rome', the release's 'Q90'"),
        ("d.tsv", "Q90\t \n", r"describes no entity of world: its first of 1 is 'Q90'"),
        ("d.jsonl", "", r"describes no entity of world: its first of 0 is ''"),
    ],
)
def test_a_mistake_is_one_line_naming_file_and_line(tmp_path, name, content, message):
    with pytest.raises(DatasetError, match=re.escape(name) + r".*" + message) as caught:
        descriptions.add(CITIES, given(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.tsv: no such file\. Make one with: melcache describe"):
        descriptions.add(CITIES, tmp_path / "gone.tsv")


def test_lines_of_wikidiverse_that_are_no_record_are_counted(tmp_path):
    path = given(tmp_path, "d.tsv", b"Paris@@@@a@@@@b\xff\nhalf\n\nno@@@@x\n")
    described = descriptions.add(CITIES, path)
    assert texts(described)["Q90"] == "a@@@@b\ufffd"
    assert described.counts["description lines without @@@@"] == 1
    assert described.counts["descriptions with damaged characters"] == 1
    assert described.counts["descriptions given"] == 2


def test_empty_texts_are_counted_and_replace_nothing(tmp_path):
    path = given(tmp_path, "d.json", '{"Q2": " \\n", "Q64": null, "Q90": " x ", "Q5": ""}')
    described = descriptions.add(CITIES, path)
    assert texts(described) == {"Q2": "old text", "Q90": "x"}
    assert described.counts["descriptions empty"] == 3
    assert described.counts["entities without a description"] == 2


# --- matching


@pytest.mark.parametrize("name", ["Q1", "Super-G", "Super G", "Super_G", "Super%2DG", "Super%5fG", " Super  G "])
def test_an_entity_is_meant_by_its_id_its_name_or_its_name_but_for_blanks(tmp_path, name):
    assert texts(descriptions.add(CITIES, given(tmp_path, "d.tsv", f"{name}\tskiing\n")))["Q1"] == "skiing"


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_texts_for_one_entity_the_best_match_is_taken_then_the_first(tmp_path, order):
    names = ["Super_G", "Super-G", "Q1"]
    for kept in range(1, 4):
        lines = "".join(f"{name}\t{name} {copy}\n" for name in names[:kept][::order] for copy in (1, 2))
        described = descriptions.add(CITIES, given(tmp_path, "d.tsv", lines))
        assert texts(described)["Q1"] == f"{names[kept - 1]} 1"
        assert described.counts.get("descriptions beside a better or earlier one") == 2 * kept - 1


def test_a_name_of_several_entities_describes_none_of_them(tmp_path):
    dataset = world(
        ("Q1", "Paris"), ("Q2", "Paris"), ("Q3", "Ann-B"), ("Q4", "Ann B"), ("Q5", "Ann_B "), ("Lyon", "Q1")
    )
    path = given(tmp_path, "d.tsv", "Paris\tx\nQ1\tby id\nAnn-B\ty\nAnn B\tz\nAnn__B\tw\n")
    described = descriptions.add(dataset, path)
    assert texts(described) == {"Q1": "by id", "Q3": "y", "Q4": "z"}
    assert described.counts["descriptions for a name of several entities"] == 2


def cleaned(title):
    return " ".join(unquote(title).replace("_", " ").replace("-", " ").split())


def naively(entities, pairs):
    """Descriptions and counts by comparing everything with everything."""
    counts, best = Counter(), {}
    for name, text in pairs:
        counts["descriptions given"] += 1
        if not text.strip():
            counts["descriptions empty"] += 1
            continue
        ways = ([e.id == name for e in entities], [e.name == name for e in entities])
        ways += ([cleaned(e.name) == cleaned(name) for e in entities],)
        rank = next((rank for rank, way in enumerate(ways) if any(way)), 0)
        found = [e.id for e, same in zip(entities, ways[rank], strict=True) if same]
        if len(found) == 1:
            counts["descriptions beside a better or earlier one"] += found[0] in best
            best.setdefault(found[0], []).append((rank, text.strip()))
        else:
            counts["descriptions for a name of several entities" if found else "descriptions for no entity"] += 1
    return {id: min(options, key=lambda option: option[0])[1] for id, options in best.items()}, counts


@pytest.mark.parametrize("seed", range(20))
def test_matching_is_that_of_a_naive_search(tmp_path, seed):
    rng = random.Random(seed)

    def name():
        return rng.choice([f"Q{rng.randrange(12)}", rng.choice("_- ").join(rng.choices("abc", k=rng.randrange(1, 3)))])

    dataset = world(*((f"Q{i}", name()) for i in range(10)))
    pairs = [("Q3", "there"), *((name(), rng.choice(["", " one ", "two", "three"])) for _ in range(40))]
    described = descriptions.add(
        dataset, given(tmp_path, "d.jsonl", "".join(json.dumps({"entity": n, "text": t}) + "\n" for n, t in pairs))
    )
    expected, counts = naively(dataset.entities, pairs)
    assert texts(described) == expected
    counts |= {"descriptions used": len(expected), "entities without a description": 10 - len(expected)}
    assert described.counts == {"captions": 3} | {what: count for what, count in counts.items() if count}
    outcomes = [count for what, count in described.counts.items() if what.startswith("descriptions ")]
    assert sum(outcomes) == 2 * described.counts["descriptions given"]


def test_a_long_file_is_streamed(tmp_path):
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom common.records import Dataset, Entity\n"
        "from extract.reading import descriptions\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = descriptions.add(Dataset('x', [], [Entity('Q7', 'seven')]), Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start, found.counts['descriptions given'])\n"
    )
    for name, line in (("d.tsv", "Q{}\t{}\n"), ("d.jsonl", '{{"entity": "Q{}", "text": "{}"}}\n')):
        path = tmp_path / name
        with path.open("w") as file:
            file.writelines(line.format(i, "word " * 200) for i in range(50_000))
        assert path.stat().st_size > 50e6
        done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True)
        grown, count = map(int, done.stdout.split())
        assert count == 50_000
        assert grown < 8_000  # kB


# --- license


def test_the_license_says_that_there_are_descriptions_and_whose(tmp_path):
    unstated = descriptions.add(CITIES, given(tmp_path, "d.jsonl", LINES))
    assert unstated.licence == (
        "MIT; descriptions: license not stated by their file (Wikipedia's text is CC BY-SA 4.0)"
    )
    origin = json.dumps({"licence": "CC BY-SA 4.0", "source": "https://en.wikipedia.org/w/api.php"})
    stated = descriptions.add(CITIES, given(tmp_path, "d.jsonl", f"{origin}\n{LINES}"))
    assert stated.licence == "MIT; descriptions: CC BY-SA 4.0, https://en.wikipedia.org/w/api.php"
    assert stated.counts["descriptions given"] == 2


# --- a stand-in of the API

LICENSE = "Creative Commons Attribution-Share Alike 4.0"


class Encyclopedia:
    """Articles, redirects and links of a made-up wiki, and what its server is told to do wrong."""

    def __init__(self):
        self.articles = {}  # title -> page
        self.redirects = {}  # title -> (title, section or None)
        self.items = {}  # Wikidata's id -> title or None
        self.merged = {}  # id -> the id that it became
        self.log = []  # of every request: its parameters, and its headers
        self.faults = deque()  # one a request: None, or a function of the handler that returns whether it has answered
        self.no_extracts_for = set()
        self.hanging = threading.Event()  # a request that is not answered has been noted

    def asked(self, parameter):
        return Counter(part for query, _ in self.log for part in query.get(parameter, "").split("|") if part)

    def reply(self, query):
        if query["action"] == "wbgetentities":
            return self._entities(query)
        if query.get("meta") == "siteinfo":
            return {"query": {"general": {"wikiid": "enwiki"}, "rightsinfo": {"text": LICENSE, "url": "x"}}}
        return self._extracts(query)

    def _entities(self, query):
        ids = query["ids"].split("|")
        if len(ids) > 50:
            return {"error": {"code": "toomanyvalues", "info": "50"}}
        found = {}
        for id in ids:
            key = self.merged.get(id, id)
            if key not in self.items:
                found[id] = {"id": id, "missing": ""}
                continue
            title = self.items[key]
            found[key] = {"id": key, "sitelinks": {"enwiki": {"site": "enwiki", "title": title}} if title else {}}
            if key != id:
                found[key]["redirects"] = {"from": id, "to": key}
        return {"entities": found, "success": 1}

    def _extracts(self, query):
        titles = query["titles"].split("|")
        if len(titles) > 50:
            return {"error": {"code": "toomanyvalues", "info": "50"}}
        normalized, redirects, pages, given = [], [], {}, int(query.get("excontinue", 0))
        for title in titles:
            known = title.replace("_", " ")
            known = known[:1].upper() + known[1:]
            if known != title:
                normalized.append({"fromencoded": False, "from": title, "to": known})
            while known in self.redirects:
                target, section = self.redirects[known]
                redirects.append({"from": known, "to": target} | ({"tofragment": section} if section else {}))
                known = target
            pages[known] = {"title": known, **self.articles.get(known, {"ns": 0, "missing": True})}
        there = [title for title, page in pages.items() if "extract" in page]
        limit = min(20, int(query["exlimit"]))
        for place, title in enumerate(there):
            if not given <= place < given + limit or title in self.no_extracts_for:
                pages[title] = {key: value for key, value in pages[title].items() if key != "extract"}
        reply = {"batchcomplete": True, "query": {"pages": list(pages.values())}}
        if given + limit < len(there):
            reply |= {"continue": {"excontinue": given + limit, "continue": "||"}}
        reply["query"] |= {"normalized": normalized} if normalized else {}
        reply["query"] |= {"redirects": redirects} if redirects else {}
        return reply


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        book = self.server.book
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        book.log.append((query, dict(self.headers)))
        fault = book.faults.popleft() if book.faults else None
        if fault is None or not fault(self):
            self.answer(json.dumps(book.reply(query)).encode())

    def answer(self, body, status=200, **headers):
        if self.headers.get("Accept-Encoding") == "gzip":
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip", **headers}
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        return True

    def log_message(self, *_):
        pass


@pytest.fixture
def book():
    return Encyclopedia()


@pytest.fixture
def server(book):
    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # a client that was killed
            pass

    with Quiet(("127.0.0.1", 0), Handler) as running:
        running.book = book
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/w/api.php"
        running.shutdown()
        thread.join()


def article(text, **page):
    return {"ns": 0, "pageid": 1, "lastrevid": 77, "extract": text, **page}


def write_entities(folder, entities):
    """A jsonl release of (id, name) or (id, name, description)."""
    fields = ("id", "name", "description")
    records = [dict(zip(fields, entity, strict=False)) for entity in entities]
    return write_release(folder, [{"id": "m", "text": "x", "mention": "x"}], records)


@pytest.fixture
def fetch(book, tmp_path, server, capsys, monkeypatch):
    """Run describe on entities; return the lines of its file after the first, by entity, and its last line."""
    real = urllib.request.urlopen

    def urlopen(request, timeout):  # a server that hangs costs no time, and a slow one is not taken for it
        if not (book.faults and book.faults[0] is hangs):
            return real(request, timeout=timeout)
        with pytest.raises(OSError, match="timed out") as caught:
            real(request, timeout=0.1)
        book.hanging.wait()
        raise caught.value

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    def run(entities, waits=None, **options):
        chosen = {"endpoint": server, "rate": 1e6, "out": tmp_path / "out" / "d.jsonl", "timeout": 600.0} | options
        config = DescribeConfig(
            contact="me@example.org", dataset="jsonl", data=write_entities(tmp_path / "release", entities), **chosen
        )
        try:
            articles.run(config, pause=(waits if waits is not None else []).append)
        finally:
            run.line, run.path = capsys.readouterr().out, config.out
        return read_output(config.out)

    return run


def read_output(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["entity"] for record in records[1:]}) == len(records[1:])
    return {record.pop("entity"): record for record in records[1:]}


def cities(book, count, linked=True):
    """`count` articles, and the entities that they are on: with Wikidata's ids, or with names only."""
    entities = []
    for i in range(count):
        book.articles[f"City {i}"] = article(f"City {i} is a city.")
        book.items[f"Q{i + 1}"] = f"City {i}"
        entities.append((f"Q{i + 1}" if linked else f"e{i}", f"City {i}"))
    return entities


# --- what is fetched


def test_entities_with_ids_of_wikidata_take_a_request_for_50_and_one_for_20_texts(book, fetch):
    found = fetch(cities(book, 130))
    assert found == {
        f"Q{i + 1}": {"title": f"City {i}", "revision": 77, "text": f"City {i} is a city."} for i in range(130)
    }
    kinds = Counter(query.get("meta", query["action"]) for query, _ in book.log)
    assert kinds == {"siteinfo": 1, "wbgetentities": 3, "query": 7}
    assert set(book.asked("titles").values()) == set(book.asked("ids").values()) == {1}
    first = json.loads(fetch.path.read_text().splitlines()[0])
    assert first == {"licence": LICENSE, "source": book_url(fetch)}
    assert re.fullmatch(
        r"fetched 130, missing 0, failed 0, \d.* s, 11 requests\. .*d\.jsonl holds 130 texts from http://.*api\.php, "
        rf"license: {LICENSE}\n",
        fetch.line,
    )


def book_url(fetch):
    return re.search(r"from (http\S+),", fetch.line)[1]


def test_entities_without_such_ids_are_asked_for_by_name_once_a_name(book, fetch):
    entities = [*cities(book, 25, linked=False), ("e90", "City 3")]
    found = fetch(entities)
    assert found["e90"] == found["e3"] == {
        "name": "City 3", "title": "City 3", "revision": 77, "text": "City 3 is a city."
    }  # fmt: skip
    assert len(found) == 26
    assert set(book.asked("titles").values()) == {1}
    assert len(book.log) == 3


def test_all_can_be_asked_for_by_name(book, fetch):
    found = fetch(cities(book, 25), by="title")
    assert found["Q3"]["text"] == "City 2 is a city."
    assert len(book.log) == 3 and not book.asked("ids")


def test_titles_are_normalized_and_redirects_followed(book, fetch):
    book.articles["Paris"] = article("Paris is a city.")
    book.articles["Ålesund"] = article("A town.")
    book.redirects = {"City of Light": ("Lutetia", None), "Lutetia": ("Paris", None)}
    found = fetch([("a", "paris"), ("b", "city_of Light"), ("c", "A\u030alesund"), ("d", "Paris")])
    assert {entity: record["title"] for entity, record in found.items()} == {
        "a": "Paris", "b": "Paris", "c": "Ålesund", "d": "Paris"
    }  # fmt: skip
    assert found["b"]["text"] == "Paris is a city."


def test_a_loop_of_redirects_ends(book, fetch):
    book.articles["Paris"] = article("Paris is a city.")
    loop = {"query": {"redirects": [{"from": "A", "to": "B"}, {"from": "B", "to": "A"}], "pages": []}}
    book.faults.extend([None, lambda handler: handler.answer(json.dumps(loop).encode())])
    with pytest.raises(NetworkError, match=r"1 entities got no answer \(last: an answer that left them out\)"):
        fetch([("a", "A")])


MERCURY = [
    ("a", "Mercury"),
    ("b", "Frodo's friend"),
    ("c", "Nobody"),
    ("d", "Blank"),
    ("e", "Paris|Rome"),
    ("f", " "),
    ("g", "é" * 128),
]


def mercury(book):
    book.articles["Mercury"] = article("Mercury may refer to:", pageprops={"disambiguation": ""})
    book.articles["List of friends"] = article("This is a list.")
    book.articles["Blank"] = article(" \n")
    book.redirects["Frodo's friend"] = ("List of friends", "Sam")


def test_what_has_no_text_of_its_own_is_marked_and_counted(book, fetch):
    mercury(book)
    found = fetch(MERCURY)
    assert {entity: (record["missing"], record.get("title")) for entity, record in found.items()} == {
        "a": ("disambiguation", "Mercury"),
        "b": ("a section only", "List of friends"),
        "c": ("no article", None),
        "d": ("no text", "Blank"),
        "e": ("no title", None),
        "f": ("no title", None),
        "g": ("no title", None),
    }
    assert not any("text" in record for record in found.values())
    assert (
        "fetched 0, missing 7 (no title 3, disambiguation 1, a section only 1, no article 1, no text 1), failed 0"
        in fetch.line
    )
    assert not any("Rome" in title for title in book.asked("titles"))


def test_loose_keeps_disambiguation_pages_and_sections(book, fetch):
    mercury(book)
    found = fetch(MERCURY, loose=True)
    assert found["a"]["text"] == "Mercury may refer to:"
    assert found["b"]["text"] == "This is a list."
    assert "missing" in found["c"]


def test_ids_without_an_article_or_merged_into_others_are_understood(book, fetch):
    book.articles["Paris"] = article("Paris is a city.")
    book.items = {"Q90": "Paris", "Q5": None}
    book.merged = {"Q91": "Q90"}
    found = fetch([("Q90", "x"), ("Q5", "y"), ("Q999999999", "z"), ("Q91", "w"), ("Q9999999999", "too long")])
    assert found.pop("Q9999999999") == {"name": "too long", "missing": "no article"}  # asked for by name
    assert found.pop("Q90")["text"] == found.pop("Q91")["text"] == "Paris is a city."
    assert found == {"Q5": {"missing": "no article"}, "Q999999999": {"missing": "no article"}}


def test_an_answer_in_parts_is_put_together(book, fetch, monkeypatch):
    monkeypatch.setitem(articles.EXTRACTS, "exlimit", "7")
    found = fetch(cities(book, 20, linked=False))
    assert [found[f"e{i}"]["text"] for i in range(20)] == [f"City {i} is a city." for i in range(20)]
    assert len(book.log) == 1 + 3


def test_addresses_stay_short_whatever_the_titles(book, fetch):
    names = [f"{'漢字' * 40} {i}" for i in range(40)]
    book.articles = {name: article(f"text of {i}") for i, name in enumerate(names)}
    found = fetch([(f"e{i}", name) for i, name in enumerate(names)])
    assert all(found[f"e{i}"]["text"] == f"text of {i}" for i in range(40))
    assert max(book.asked("titles").values()) == 1
    assert 40 / 20 < len(book.log) - 1 < 40
    longest = max(len(query.get("titles", "").encode()) * 3 for query, _ in book.log)
    assert longest < 8000


def test_entities_that_have_a_description_are_not_asked_for_and_a_limit_is_kept(book, fetch):
    entities = cities(book, 9, linked=False)
    entities[0] = (*entities[0], "known")
    assert list(fetch(entities, limit=3)) == ["e1", "e2", "e3"]
    assert sorted(fetch(entities, limit=5)) == ["e1", "e2", "e3", "e4", "e5"]
    assert set(book.asked("titles").values()) == {1}


def test_what_was_fetched_is_read_by_descriptions(book, fetch, tmp_path):
    mercury(book)
    fetch([*cities(book, 3), *MERCURY])
    described = descriptions.add(load("jsonl", tmp_path / "release"), fetch.path)
    assert texts(described) == {f"Q{i + 1}": f"City {i} is a city." for i in range(3)}
    assert described.counts["descriptions used"] == 3
    assert described.counts["descriptions empty"] == 7
    assert described.licence.endswith(f"; descriptions: {LICENSE}, {book_url(fetch)}")


# --- manners


def test_every_request_says_who_asks_and_takes_gzip_and_lag(book, fetch):
    fetch(cities(book, 30))
    assert len(book.log) > 3
    for query, headers in book.log:
        assert re.fullmatch(r"melcache/\S+ \(me@example\.org\) python-urllib/3\.\S+", headers["User-Agent"])
        assert headers["Accept-Encoding"] == "gzip"
        assert (query["maxlag"], query["format"], query["formatversion"]) == ("5", "json", "2")


@pytest.mark.parametrize("contact", ["", "me", "me@example.org\nX: y", "me example@example.org", "ftp://x.org"])
def test_a_contact_is_asked_for(tmp_path, contact):
    with pytest.raises(ConfigError, match=r"--contact .*expected a mail address or an http"):
        DescribeConfig(contact=contact, out=tmp_path)
    result = CliRunner().invoke(app, ["describe", "--out", str(tmp_path / "d.jsonl")])
    assert result.exit_code == 2 and "--contact" in result.stderr


class Clock:
    def __init__(self):
        self.time = 1000.0
        self.begun = []

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


def test_requests_begin_no_faster_than_the_rate(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(wikipedia.time, "monotonic", clock.monotonic)
    client = wikipedia.Wiki("me@example.org", rate=4, timeout=1, pause=clock.sleep)

    def once(_):
        clock.begun.append(clock.time)
        clock.time += 0.1 if len(clock.begun) < 5 else 0.6  # the server's own time counts
        return {"ok": True}, "", 0

    monkeypatch.setattr(client, "_once", once)
    for _ in range(8):
        client.ask("http://x", {})
    gaps = [b - a for a, b in zip(clock.begun, clock.begun[1:], strict=False)]
    assert gaps == pytest.approx([0.25] * 4 + [0.6] * 3)
    assert client.requests == 8


def fails(status=503, **headers):
    return lambda handler: handler.answer(b"<html>busy</html>", status, **headers)


def lags(handler):
    body = {"error": {"code": "maxlag", "info": "Waiting for db1: 7 seconds lagged", "lag": 7}}
    return handler.answer(json.dumps(body).encode(), Retry_After=5)


def hangs(handler):
    """Answer nothing until the client has gone."""
    handler.server.book.hanging.set()
    handler.connection.recv(1)
    return True


def cuts(handler):
    """Close in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"query": ')
    return True


def cuts_gzip(handler):
    """An answer whose compressed half is whole as far as HTTP can tell."""
    body = gzip.compress(b'{"query": {}}')[:-9]
    handler.send_response(200)
    for name, value in (("Content-Encoding", "gzip"), ("Content-Length", len(body))):
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def drops(handler):
    handler.connection.close()
    return True


FAULTS = {
    "429": fails(429, Retry_After=9),
    "503": fails(503),
    "502": fails(502),
    "maxlag": lags,
    "timeout": hangs,
    "half": cuts,
    "half gzip": cuts_gzip,
    "dropped": drops,
    "no JSON": lambda handler: handler.answer(b"<html>"),
    "internal": lambda handler: handler.answer(b'{"error": {"code": "internal_api_error_DBQueryError"}}'),
    "ratelimited": lambda handler: handler.answer(b'{"error": {"code": "ratelimited", "info": "slow"}}'),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_fault_that_passes_is_waited_for_and_nothing_is_lost_or_asked_twice(book, fetch, name, place):
    book.faults.extend([None] * place + [FAULTS[name]])
    waits = []
    found = fetch(cities(book, 22), waits)
    assert len(found) == 22 and all("text" in record for record in found.values())
    assert len(book.log) == 1 + 1 + 2 + 1
    asked = max(waits)
    assert asked == {"429": 9, "maxlag": 5}.get(name, asked)
    assert name in ("429", "maxlag") or 0.5 <= asked <= 1


def test_a_date_in_retry_after_is_understood(book, fetch):
    from email.utils import formatdate

    book.faults.extend(
        [fails(429, Retry_After=formatdate(time.time() + 100, usegmt=True)), fails(503, Retry_After="x")]
    )
    waits = []
    fetch(cities(book, 3), waits)
    assert 95 < max(waits) <= 100
    assert len(book.log) == 5


def test_pauses_double_at_random_up_to_a_minute(book, fetch):
    book.faults.extend([fails()] * 7)
    waits = []
    fetch(cities(book, 1), waits)
    pauses = [wait for wait in waits if wait > 0.1]
    assert len(pauses) == 7
    for attempt, pause in enumerate(pauses):
        assert 0.5 * min(2**attempt, 60) <= pause <= min(2**attempt, 60)
    assert len({pause / min(2**attempt, 60) for attempt, pause in enumerate(pauses)}) > 1


def test_a_server_that_wants_hours_is_left_alone(book, fetch):
    book.faults.extend([None, None, None, fails(429, Retry_After=7200)])
    with pytest.raises(
        NetworkError, match=r"asks to wait 2 h 00 min \(HTTP 429 .*\)\. Run the same command again then"
    ):
        fetch(cities(book, 60))
    assert len(book.log) == 4
    assert len(read_output(fetch.path)) == 20
    assert "fetched 20" in fetch.line


def test_a_refusal_stops_at_once(book, fetch):
    book.faults.extend([None, fails(403)])
    with pytest.raises(NetworkError, match=r"/w/api\.php refuses: HTTP 403 Forbidden"):
        fetch(cities(book, 60))
    assert len(book.log) == 2


def test_one_request_without_an_answer_fails_alone_and_is_asked_again_next_time(book, fetch):
    entities = cities(book, 60, linked=False)
    book.faults.extend([None, None, *[fails()] * wikipedia.TRIES])
    with pytest.raises(
        NetworkError, match=r"20 entities got no answer \(last: .* did not answer 8 times, last: HTTP 503"
    ):
        fetch(entities)
    assert "fetched 40, missing 0, failed 20" in fetch.line
    lost = {f"e{i}" for i in range(60)} - read_output(fetch.path).keys()
    assert len(lost) == 20
    before = book.asked("titles")
    assert len(fetch(entities)) == 60
    assert "fetched 20, missing 0, failed 0" in fetch.line
    assert (book.asked("titles") - before) == Counter(f"City {entity[1:]}" for entity in lost)


def test_three_requests_in_a_row_without_an_answer_end_the_run(book, fetch):
    def refuses(handler):
        return handler.answer(b'{"error": {"code": "badvalue", "info": "no"}}')

    book.faults.extend([None, None, refuses, refuses, None, refuses, refuses, refuses])
    with pytest.raises(
        NetworkError, match=r"3 requests in a row got no answer\. .*refuses: badvalue: no\. .*to continue"
    ):
        fetch(cities(book, 200, linked=False))
    assert len(book.log) == 8
    assert "fetched 40, missing 0, failed 100" in fetch.line


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({}, "did not answer as api.php"),
        ([], "refuses: no object"),
        ({"query": {"general": {"wikiid": "x"}, "rightsinfo": []}}, "did not answer as api.php"),
    ],
)
def test_an_address_that_is_no_mediawiki_is_said_to_be_none(book, fetch, reply, message):
    book.faults.append(lambda handler: handler.answer(json.dumps(reply).encode()))
    with pytest.raises(NetworkError, match=message):
        fetch(cities(book, 1))


def test_a_wiki_without_extracts_is_said_to_be_one(book, fetch):
    entities = cities(book, 3, linked=False)
    book.no_extracts_for = set(book.articles)
    with pytest.raises(NetworkError, match=r"gave no extracts\. Does it have the extension TextExtracts\?"):
        fetch(entities)
    assert read_output(fetch.path) == {}


def test_pages_that_an_answer_leaves_out_are_not_taken_for_missing(book, fetch):
    entities = cities(book, 5, linked=False)
    reply = {"query": {"pages": [{"title": "City 0", "lastrevid": 77, "extract": "City 0 is a city."}]}}
    book.faults.extend([None, lambda handler: handler.answer(json.dumps(reply).encode())])
    with pytest.raises(NetworkError, match=r"4 entities got no answer"):
        fetch(entities)
    assert list(read_output(fetch.path)) == ["e0"]
    assert len(fetch(entities)) == 5


# --- the file


def test_a_second_run_asks_nothing(book, fetch):
    mercury(book)
    first = fetch([*cities(book, 30), *MERCURY])
    requests = len(book.log)
    assert fetch([*cities(book, 30), *MERCURY]) == first
    assert len(book.log) == requests
    assert re.match(r"fetched 0, missing 0, failed 0, .* 0 requests\. .* holds 30 texts from http", fetch.line)


def test_a_half_written_line_is_cut_off_and_asked_again(book, fetch, capsys):
    entities = cities(book, 25, linked=False)
    whole = fetch(entities)
    content = fetch.path.read_bytes()
    for cut in (1, 20, 200):
        fetch.path.write_bytes(content[:-cut])
        assert fetch(entities) == whole
    fetch.path.write_bytes(content[:30])  # in the first line
    assert fetch(entities) == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 3 is not JSON"),
        ('{"text": "x"}', r"line 3: expected a record with the fields entity, "),
        ('{"entity": "x", "why": "x"}', r"line 3: expected a record"),
    ],
)
def test_a_broken_line_in_the_middle_is_named_and_the_file_left_alone(book, fetch, line, message):
    entities = cities(book, 3, linked=False)
    fetch(entities)
    lines = fetch.path.read_text().splitlines()
    lines[2] = line
    fetch.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match=r"d\.jsonl " + message):
        fetch(entities)
    assert fetch.path.read_text().splitlines() == lines


def test_a_file_of_another_kind_source_or_release_is_refused(book, fetch, server):
    entities = cities(book, 3, linked=False)
    fetch(entities[:2])
    with pytest.raises(
        DatasetError, match=r"was fetched from http\S+/w/api\.php, not \S+/other/api\.php\. Choose another"
    ):
        fetch(entities, endpoint=server.replace("/w/", "/other/"))
    with pytest.raises(DatasetError, match=r"holds 'e1' as 'City 1', this release calls it 'Rome'\. .*another release"):
        fetch([("e1", "Rome")])
    fetch.path.write_text(LINES)
    with pytest.raises(DatasetError, match=r"line 1: expected licence and source, the first line of a file"):
        fetch(entities)
    assert fetch.path.read_text() == LINES


def test_two_processes_do_not_write_one_file(book, fetch):
    entities = cities(book, 3)
    fetch(entities)
    with (
        output_file.OutputFile(fetch.path),
        pytest.raises(DatasetError, match=r"is being written by another process\. Wait, or choose another --out"),
    ):
        fetch(entities)
    assert len(fetch(entities)) == 3


def test_a_place_that_can_not_be_written_is_one_line(book, fetch, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("")
    for out in (folder, file / "d.jsonl"):
        with pytest.raises(DatasetError, match=r"cannot be written: .*\. Choose another --out"):
            fetch(cities(book, 3), out=out)
    assert book.log == []


def test_a_full_disk_is_one_line_and_what_was_synced_is_kept(book, fetch, monkeypatch):
    entities, synced = cities(book, 60, linked=False), []

    def fsync(_):
        synced.append(1)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output_file.os, "fsync", fsync)
    with pytest.raises(DatasetError, match=r"d\.jsonl cannot be written: No space left on device\. Make room"):
        fetch(entities)
    assert len(fetch(entities)) == 60


def command_line(server, tmp_path, entities):
    data = write_entities(tmp_path / "release", entities)
    options = {"dataset": "jsonl", "data": data, "out": tmp_path / "d.jsonl", "contact": "me@example.org"}
    options |= {"endpoint": server, "rate": 1000}
    pairs = [(f"--{name}", str(value)) for name, value in options.items()]
    return [sys.executable, "-m", "extract", "describe", *(word for pair in pairs for word in pair)]


@pytest.mark.parametrize(("killed_at", "held_then"), [(2, 0), (3, 0), (4, 20), (6, 40)])
def test_a_killed_run_goes_on_and_asks_nothing_more_than_once_again(book, server, tmp_path, killed_at, held_then):
    entities = cities(book, 130)
    book.articles["City 7"] |= {"pageprops": {"disambiguation": ""}}
    command = command_line(server, tmp_path, entities)

    def kill(_):
        child.send_signal(signal.SIGKILL)
        return False

    book.faults.extend([None] * (killed_at - 1) + [kill])
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.communicate(timeout=600)
    assert child.returncode == -signal.SIGKILL
    written = (tmp_path / "d.jsonl").read_text()
    assert len(written.splitlines()) == 1 + held_then
    book.faults.clear()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d.jsonl").read_text().startswith(written)
    found = read_output(tmp_path / "d.jsonl")
    assert found.keys() == {entity for entity, _ in entities}
    assert found.pop("Q8") == {"title": "City 7", "revision": 77, "missing": "disambiguation"}
    assert all(record["text"] == f"City {int(entity[1:]) - 1} is a city." for entity, record in found.items())
    again = {name: count for name, count in (book.asked("ids") + book.asked("titles")).items() if count > 1}
    assert set(again.values()) <= {2}
    answered = {json.loads(line)["entity"] for line in written.splitlines()[1:]}
    assert not answered & again.keys()


def test_an_interrupt_is_one_line_and_keeps_what_was_answered(book, server, tmp_path):
    entities = cities(book, 60, linked=False)

    def interrupt(handler):
        child.send_signal(signal.SIGINT)
        return hangs(handler)

    book.faults.extend([None, None, interrupt])
    command = command_line(server, tmp_path, entities)
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = child.communicate(timeout=600)
    assert child.returncode == 130
    assert "the same command continues" in err and "Traceback" not in err
    assert re.match(r"fetched (20|40), ", out)
