"""The page without JavaScript: the form as a browser sends it, and what is filled in."""

import contextlib
import re

import pytest
from fastapi.testclient import TestClient

from serve.app import application
from serve.config import ServeConfig
from tests.serve.fake_linker import FakeLinker


@pytest.fixture
def linker():
    return FakeLinker()


@pytest.fixture
def client(linker):
    app = application(linker, ServeConfig("runs/demo"))
    with contextlib.closing(app), TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


def sent(client, picture=None, **fields):
    """Send the form as a browser does: always as multipart, with an empty file where none was chosen."""
    given = {"text": "Super G in Vail", "mention": "Super G", "start": "", "end": "", "nil_below": "0"} | fields
    name, data = picture or ("", b"")
    return client.post("/", data=given, files={"image": (name or "blank", data)} if picture else {"image": ("", b"")})


def text_of(html):
    """What a person reads."""
    blocks = re.sub(r"</?(bdi|strong|mark)>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", blocks))


def test_the_page_says_what_is_served_and_nothing_of_this_machine(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Run demo (drin), dataset demo, 5 entities" in page.text and "someone" not in page.text
    assert "Warning:</strong> random &lt;weights&gt;" in page.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert name.startswith(("/", "#")), name
    for name in ("page.css", "page.js", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200


def test_an_answer_is_words_numbers_and_bars(client, linker):
    page = sent(client, ("a.jpg", b"bytes"))
    assert page.status_code == 200 and linker.mentions[0].image == b"bytes"
    words = text_of(page.text)
    assert "“Super G” is Super-G (Q0)" in words and "probability 0.500, score 1" in words
    assert "sentence, entity’s text -0.200" in words and "your picture, entity’s picture 0.700" in words
    assert page.text.count('<rect width="70.0"') == 5 and page.text.count('<rect width="0.0"') == 5
    assert "your picture, entity’s picture no picture" in text_of(sent(client).text)


def test_what_strangers_wrote_is_text(client):
    page = sent(client, text="<b>Super G</b> {{ 7 * 7 }} \x00 \u202e", mention="Super G").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;" in page and "{{ 7 * 7 }}" in page and "49" not in page
    typed = sent(client, text='fail "><img src=x>', mention='"><img').text
    assert "<img" not in typed and "&#34;&gt;&lt;img" in typed


def test_abstention_is_said_in_words(client):
    words = text_of(sent(client, nil_below="0.75").text)
    assert "No entity for “Super G”" in words and "Abstained." in words
    assert "a probability of 0.500, less than the 0.75 that you ask for" in words


def test_a_picture_that_is_none_is_said_and_the_answer_comes_without_it(client):
    assert "Without your picture: the file is damaged or incomplete" in text_of(sent(client, ("a.jpg", b"broken")).text)
    assert "Without your picture" not in sent(client).text


def test_a_mention_that_stands_twice_is_asked_for_and_chosen_by_a_button(client, linker):
    page = sent(client, text="Vail beat Vail, Vaille", mention="Vail")
    assert re.findall(r'name="at" value="(\d+)"', page.text) == ["0", "10"] and linker.calls == []
    chosen = sent(client, text="Vail beat Vail, Vaille", mention="Vail", at="10")
    assert (linker.mentions[0].start, linker.mentions[0].end) == (10, 14)
    assert "Vail beat <mark>Vail</mark>" in chosen.text


def test_lines_are_counted_as_the_browser_counts_them(client, linker):
    sent(client, text="one\r\ntwo\r\nVail", mention="Vail", start="8", end="12")
    assert linker.mentions[0].text == "one\ntwo\nVail" and linker.mentions[0].mention == "Vail"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": "fail"}, "mention 1: there is no such thing in"),
        ({"text": "a" * 10_001}, "the sentence has 10,001 characters"),
        ({"text": "a" * 60_000}, "has more in it"),
        ({"mention": "a" * 1_001}, "the mention has 1,001 characters"),
        ({"nil_below": "2"}, "expected a number from 0 to 1"),
        ({"nil_below": "nan"}, "expected a number from 0 to 1"),
        ({"start": "-1"}, "expected a whole number"),
        ({"start": "9" * 5_000}, "expected a whole number"),
        ({f"field{number}": "" for number in range(9)}, "has more in it"),
    ],
    ids=range(9),
)
def test_what_is_refused_is_said_on_the_page_and_what_was_typed_stays(client, fields, words):
    page = sent(client, **fields)
    assert page.status_code == 422 and words in text_of(page.text) and 'role="alert"' in page.text
    if set(fields) <= {"nil_below", "start"}:
        assert ">Super G in Vail</textarea>" in page.text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", b""),
        ("application/x-www-form-urlencoded", b"text=a&mention=a"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x; charset=idna", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--"),
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data; boundary=" + "y" * 300, b"--y"),
    ],
)
def test_a_form_of_another_kind_is_refused(client, kind, body):
    assert client.post("/", content=body, headers={"content-type": kind}).status_code == 422
