"""`melcache serve` in one process: what is answered, what is refused, and in which words."""

import asyncio
import base64
import contextlib
import io
import json
import threading
import tracemalloc
from collections import deque

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from common.errors import MelcacheError
from serve import line as lines
from serve.app import application
from serve.config import ServeConfig
from serve.door import gate
from tests.serve.fake_linker import FakeLinker

HERE = "http://127.0.0.1"
ASKED = {"text": "Super G in Vail", "mention": "Super G"}
LOST, NO_PICTURE = {"text": "lost", "mention": "lost"}, {"image": ("", b"")}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A JPEG of 400 x 200 pixels whose EXIF holds a place, and whose comment a name."""
    path = tmp_path_factory.mktemp("secret-folder") / "picture.jpg"
    image = Image.new("RGB", (400, 200), "red")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    image.save(path, "JPEG", exif=exif, comment=b"taken by me")
    assert b"taken at home" in path.read_bytes() and b"taken by me" in path.read_bytes()
    return path


@pytest.fixture
def linker(picture):
    return FakeLinker(picture)


def served(linker, **bounds):
    return application(linker, ServeConfig("runs/demo", **bounds))


@contextlib.contextmanager
def asking(linker, **bounds):
    app = served(linker, **bounds)
    with TestClient(app, HERE, raise_server_exceptions=False) as client:
        yield client
    app.close()


@pytest.fixture
def client(linker):
    with asking(linker) as found:
        yield found


def said(reply, status):
    """The sentence of an error; it has no path of the server, and is one line."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json" and list(reply.json()) == ["error"]
    sentence = reply.json()["error"]
    assert sentence and "\n" not in sentence and "/srv" not in sentence and "secret-folder" not in sentence
    return sentence


def test_a_mention_is_linked_as_the_command_prints_it_with_pictures_by_address(client, linker):
    reply = client.post("/api/link", json={"mentions": [ASKED], "top": 2})
    assert reply.status_code == 200
    [link] = linker.link(list(linker.mentions), top=2)
    told = link.as_json()
    for candidate in told["candidates"]:
        candidate["picture"] = candidate["picture"] and f"/picture/{candidate['id']}"
    assert reply.json() == [told]
    assert "secret-folder" not in reply.text and "someone" not in client.get("/api/health").text


def test_many_mentions_come_back_in_order_with_their_pictures_read(client, linker):
    image = base64.b64encode(b"bytes").decode()
    asked = [ASKED, {"text": "a b a", "mention": "a", "start": 4, "id": "m2", "image": image, "candidates": ["Q1"]}]
    found = client.post("/api/link", json={"mentions": asked, "nil_below": 0.9}).json()
    assert [answer["mention"] for answer in found] == ["Super G", "m2"] and found[1]["start"] == 4
    assert [answer["nil"] for answer in found] == [True, True]  # 0.5 is less probable than 0.9
    assert linker.mentions[1].image == b"bytes" and linker.mentions[1].candidates == ("Q1",)
    assert linker.calls == [2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no JSON: Expecting value"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 300_000, "200,000 brackets"),
        (b'{"mentions": NaN}', "NaN is no number"),
        (b'{"mentions": [], "mentions": []}', "a key stands there twice"),
        (b'{"mentions": []}', "mentions: list should have at least 1 item"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"1" * 10_000, "the body is no JSON"),
        (b'{"mentions": [{"text": "a"}]}', "mentions[0]: say which mention"),
        (b'{"mentions": [{"text": "\\ud800", "mention": "a"}]}', "mentions[0].text: input should be a valid string"),
        (b'{"mentions": [{"text": "a", "mention": "a", "image": "!"}]}', "mentions[0].image: expected the bytes"),
        (b'{"mentions": [{"text": "a", "mention": "a", "imgae": ""}]}', "mentions[0].imgae: extra inputs"),
        (
            b'{"mentions": [{"text": "a", "mention": "a", "start": "0"}]}',
            "mentions[0].start: input should be a valid int",
        ),
        (b'{"mentions": [{"text": "a", "mention": "a", "start": 1e400}]}', "mentions[0].start"),
        (b'{"mentions": [{"text": "b", "mention": "a"}]}', "does not stand in the text"),
        (b'{"mentions": [{"text": "fail", "mention": "fail"}]}', "mention 1: there is no such thing in 'fail'"),
        (b'{"mentions": [{"text": "fail /etc/a b", "mention": "fail"}]}', "no such thing in 'fail /etc/a b'"),
        (json.dumps({"mentions": [ASKED], "top": 0}).encode(), "top: "),
        (json.dumps({"mentions": [ASKED], "nil_below": 1.5}).encode(), "nil_below: "),
        (json.dumps({"mentions": [ASKED] * 65}).encode(), "65 mentions at once, expected at most 64"),
        (json.dumps({"mentions": [ASKED | {"text": "a" * 10_001}]}).encode(), "at most 10000 characters"),
    ],
    ids=range(21),
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(client, body, words):
    reply = client.post("/api/link", content=body, headers={"content-type": "application/json"})
    assert words in said(reply, 413 if "brackets" in words else 422)


def test_a_fault_of_ours_is_500_without_a_word_of_it(client, capsys):
    reply = client.post("/api/link", json={"mentions": [{"text": "crash", "mention": "crash"}]})
    assert "terminal" in said(reply, 500) and "fault of ours" not in reply.text
    for asked in ({"json": {"mentions": [{"text": "lost", "mention": "lost"}]}}, {"data": LOST, "files": NO_PICTURE}):
        reply = client.post("/api/link" if "json" in asked else "/", **asked)
        assert reply.status_code == 500 and "its terminal says why" in reply.text and "shards" not in reply.text
        assert "error: /srv/my shards/demo/entity.h5 or file:///srv/shards is not there" in capsys.readouterr().err
    assert client.post("/api/link", json={"mentions": [ASKED]}).status_code == 200  # the thread lives


def test_other_addresses_and_methods_are_refused_in_the_same_form(client):
    assert "nothing at this address" in said(client.get("/docs"), 404)
    assert said(client.get("/api/link"), 405)
    assert said(client.get("/page/page.html"), 404)


@pytest.mark.parametrize(
    "path", ["/page/..%2fapp.py", "/page/%2e%2e/app.py", "/picture/..%2f..%2fetc%2fpasswd", "/api/entity/../../x"]
)
def test_no_path_leads_out(client, path):
    assert said(client.get(path), 404)


def test_entities_are_found_by_any_id(client, linker):
    assert client.get("/api/entity/Q0").json() == {
        "id": "Q0", "name": "Super-G", "description": "number 0", "picture": "/picture/Q0", "new": False,
    }  # fmt: skip
    odd = client.get("/api/entity/a%2F..%2F%22b%22%20%3F%23%C3%A9").json()
    assert odd["name"] == "odd" and len(odd["description"]) == 2_000
    assert client.get(odd["picture"]).status_code == 200
    assert "no entity" in said(client.get("/api/entity/Q9"), 404)


def test_pictures_are_small_and_say_nothing_else(client):
    reply = client.get("/picture/Q0")
    with Image.open(io.BytesIO(reply.content)) as image:
        assert image.size == (160, 80) and not image.getexif()
    assert reply.headers["content-type"] == "image/jpeg" and b"taken" not in reply.content
    assert "no picture" in said(client.get("/picture/Q1"), 404)
    assert "not_an_image" in said(client.get("/picture/broken"), 404)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::1", "192.168.0.7"]
)
def test_a_strange_name_is_not_answered(client, host):
    assert "another name" in said(client.get("/api/health", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:9", "127.0.0.1:1", "127.9.9.9", "[::1]:8000", "a.localhost"])
def test_names_of_this_machine_are(client, host):
    assert client.get("/api/health", headers={"host": host}).status_code == 200


def test_the_host_that_was_given_is_answered_and_of_all_of_them_every_address(linker):
    with asking(linker, host="example.org") as client:
        assert client.get("/api/health", headers={"host": "example.org:80"}).status_code == 200
        assert client.get("/api/health", headers={"host": "10.0.0.1"}).status_code == 421
    with asking(linker, host="0.0.0.0") as client:
        assert client.get("/api/health", headers={"host": "10.0.0.1"}).status_code == 200
        assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 421


def test_pages_of_other_sites_may_not_ask(client):
    strange = ("null", "https://evil.example", "file://localhost", "", f"{HERE}:9", f"{HERE}.evil.example", "http://")
    for origin in (*strange, "https://127.0.0.1:80", "http://localhost", f"{HERE}:80:80", f"{HERE}/", f"{HERE}@a"):
        for path in ("/api/link", "/"):
            reply = client.post(path, json={"mentions": [ASKED]}, headers={"origin": origin})
            assert reply.status_code == 403 and "another site" in reply.text
    for host, origin in (
        ("127.0.0.1", HERE),
        ("127.0.0.1", f"{HERE}:80"),
        ("127.0.0.1:80", "HTTP://127.0.0.1"),
        ("127.0.0.1:9", f"{HERE}:9"),
        ("[::1]:9", "http://[::1]:9"),
        ("localhost", "https://localhost"),  # behind a proxy that encrypts
    ):
        told = client.post("/api/link", json={"mentions": [ASKED]}, headers={"origin": origin, "host": host})
        assert told.status_code == 200


def test_every_answer_forbids_the_browser_all_but_the_page(client):
    for path in ("/", "/api/health", "/nothing", "/picture/Q0"):
        rules = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in rules and "unsafe" not in rules and "http" not in rules
        assert "access-control-allow-origin" not in client.get(path, headers={"origin": HERE}).headers


def test_a_body_that_is_too_large_is_refused(linker):
    with asking(linker, max_request=1) as client:
        large = b"x" * 1_000_001
        assert "larger than 1 MB" in said(client.post("/api/link", content=large), 413)
        assert "larger than 1 MB" in said(client.post("/api/link", content=iter([large])), 413)
        assert client.app.gate.held == 0


def test_a_schema_is_there_and_no_page_that_loads_from_elsewhere(client):
    found = client.get("/openapi.json").json()
    assert set(found["paths"]) == {"/", "/api/link", "/api/entity/{id}", "/api/health", "/picture/{id}"}
    answers = found["paths"]["/api/link"]["post"]["responses"]
    assert set(answers) == {"200", "400", "408", "413", "415", "422", "429", "503"}
    assert answers["422"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404


# the line


@pytest.mark.parametrize(("bad", "told"), [("fail", "mention 1"), ("crash", "a fault of ours")])
def test_mentions_that_wait_are_linked_together_and_a_bad_one_fails_alone(linker, bad, told):
    linker.gate = threading.Event()

    async def ask():
        line = lines.Line(linker, 100, 100, 20)
        first = asyncio.create_task(line.link([mention("first")], 10, 0.0, "a"))
        await asyncio.sleep(0.05)
        others = [
            asyncio.create_task(line.link([mention(text)], top, 0.0, "b"))
            for text, top in (("good", 2), (bad, 1), ("fine", 1))
        ]
        await asyncio.sleep(0.05)
        assert line.waiting == 4
        linker.gate.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert line.waiting == 0
        line.close()
        return found

    first, good, failed, fine = asyncio.run(ask())
    assert linker.calls == [1, 3, 1, 1, 1]
    assert [len(first[0].candidates), len(good[0].candidates), len(fine[0].candidates)] == [5, 2, 1]
    assert good[0].surface == "good" and told in str(failed)


def test_a_full_line_and_a_full_share_are_refused_and_who_waits_too_long_is_left_out(linker):
    linker.gate = threading.Event()

    async def ask():
        line = lines.Line(linker, 3, 2, 0.3)
        waiting = []
        for who in "aab":
            waiting.append(asyncio.create_task(line.link([mention("one")], 10, 0.0, who)))
            await asyncio.sleep(0.02)
        for who, status in (("a", 429), ("c", 503)):
            with pytest.raises(lines.Refusal) as refused:
                await line.link([mention("one")], 10, 0.0, who)
            assert refused.value.status_code == status and int(refused.value.headers["retry-after"]) >= 1
        late = await asyncio.gather(*waiting, return_exceptions=True)
        assert [error.status_code for error in late] == [503, 503, 503] and line.waiting == 0
        linker.gate.set()
        await line.link([mention("one")], 10, 0.0, "a")
        line.close()

    asyncio.run(ask())
    assert linker.calls == [1, 1]  # the two that waited behind were never linked


def mention(text, picture=None):
    return lines.NewMention(text, text, image=picture)


def png(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_pictures_that_wait_are_bounded_by_their_pixels_not_by_their_bytes(linker, monkeypatch):
    """At 100 pixels of one client and 200 of all, a batch holds 100."""
    monkeypatch.setattr(lines, "PIXELS", 100)
    monkeypatch.setattr(lines, "ALL_PIXELS", 200)
    linker.gate = threading.Event()

    async def put(line, asked, who):
        """Let them wait in the line, behind those that do."""
        before, answer = line.waiting, asyncio.create_task(line.link(asked, 10, 0.0, who))
        while line.waiting == before and not answer.done():
            await asyncio.sleep(0.01)
        return answer

    async def ask():
        line = lines.Line(linker, 100, 50, 300)
        waiting = []
        for who, sides in (("z", ()), ("a", (8,)), ("b", (6, 6)), ("c", (5,)), ("b", ()), ("b", (5,))):
            asked = [mention("one", png(side, side)) for side in sides] or [mention("one")]
            waiting.append(await put(line, asked, who))
        for who, side, status in (("d", 11, 413), ("a", 7, 429), ("d", 5, 503)):
            with pytest.raises(lines.Refusal) as refused:
                await line.link([mention("one", png(side, side))], 10, 0.0, who)
            assert refused.value.status_code == status
        waiting.append(await put(line, [mention("one", b"no picture")], "d"))
        linker.gate.set()
        await asyncio.gather(*waiting)
        await line.link([mention("one", png(10, 10))], 10, 0.0, "a")
        assert line.waiting == 0 and not line._pixels
        line.close()

    asyncio.run(ask())
    assert linker.calls == [1, 1, 4, 2, 1]  # nothing, 64, 72 + 25, 25, 100 pixels


def test_bounds_of_the_options_are_checked():
    for given, words in (({"port": 70_000}, "--port"), ({"max_waiting": 5}, "would never fit")):
        with pytest.raises(MelcacheError, match=words):
            ServeConfig("runs/demo", **given)


def test_bodies_of_all_requests_share_one_memory_and_a_refused_one_is_read_to_its_end(linker, monkeypatch):
    monkeypatch.setattr(gate, "HELD", 1)
    with asking(linker, max_request=1) as client:
        took = []

        def parts():
            for _ in range(9):
                took.append(1)
                yield b"x" * 100_000

        reply = client.post("/api/link", content=parts())
        assert "all the memory" in said(reply, 503) and reply.headers["retry-after"] == "1"
        assert len(took) == 9 and client.app.gate.held == 0
        assert client.post("/api/link", json={"mentions": [ASKED]}).status_code == 200


def sent(app, kind, path, body):
    """Send a body in pieces, which are freed as they are taken; return the status, and the most memory that it took."""
    pieces = deque(bytes(body[at : at + 65_536]) for at in range(0, len(body), 65_536))
    told, heads = [], {"host": "127.0.0.1", "content-type": kind, "content-length": str(len(body))}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path, "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in heads.items()], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip

    async def receive():
        if not pieces:
            await asyncio.Future()
        return {"type": "http.request", "body": pieces.popleft(), "more_body": bool(pieces)}

    async def send(message):
        told.append(message)

    before = tracemalloc.get_traced_memory()[0] - len(body)
    tracemalloc.reset_peak()
    asyncio.run(app(scope, receive, send))
    return told[0]["status"], tracemalloc.get_traced_memory()[1] - before


def test_what_a_body_and_its_copies_take_is_what_the_gate_counts(linker, monkeypatch):
    """The most that is allocated while a request is answered, told by Python itself."""
    app, held, real = served(linker), [], gate.Gate._pass
    monkeypatch.setattr(gate.Gate, "_pass", lambda self, *given: held.append(self.held) or real(self, *given))
    pictures = base64.b64encode(bytes(1_500_000))
    asked = b'{"mentions": [{"text": "%s", "mention": "a", "image": "%s"}]}'
    form = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    typed = [
        form % part for part in ((b"text", b"", b"a"), (b"mention", b"", b"a"), (b"image", b'; filename="p"', pictures))
    ]
    sent(app, "application/json", "/api/link", asked % (b"a", b""))
    tracemalloc.start()
    try:
        for kind, path, body, status, most in (
            ("application/json", "/api/link", asked % (b"a", pictures), 200, 1.2),
            ("multipart/form-data; boundary=x", "/", b"".join(typed) + b"--x--\r\n", 200, 1.2),
            ("application/json", "/api/link", asked % (b"a \xf0\x9f\x98\x80", pictures), 200, 4.2),  # for a moment
        ):
            found, peak = sent(app, kind, path, body)
            assert found == status and peak <= most * held[-1], (kind, peak / held[-1])
    finally:
        tracemalloc.stop()
    assert app.gate.held == 0
    app.close()
