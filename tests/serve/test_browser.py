"""The page in Chromium: a mention is selected, a picture is dropped, an answer comes; also without JavaScript."""

import pytest

from tests.browsing import NARROW, chromium, page_of, violations
from tests.serve.test_process import running

TEXT = "🎿 Super G in Vail,\nno Super G"
DROP = """([selector, name, bytes]) => {
  const holder = new DataTransfer();
  holder.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
  const told = { dataTransfer: holder, bubbles: true, cancelable: true };
  for (const kind of ["dragover", "drop"]) document.querySelector(selector).dispatchEvent(new DragEvent(kind, told));
}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a fake run is served, and the folder that holds its picture."""
    folder = tmp_path_factory.mktemp("served")
    with running(folder) as (_, port):
        yield f"http://127.0.0.1:{port}", folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


def is_narrow(page):
    """Whether nothing stands out to the right."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def select(page, begin, letters):
    """Select in the sentence by keyboard alone: from a place in it so many letters to the right."""
    page.focus("#text")
    page.keyboard.press("Control+Home")
    for _ in range(begin):
        page.keyboard.press("ArrowRight")
    for _ in range(letters):
        page.keyboard.press("Shift+ArrowRight")


def test_a_mention_is_selected_a_picture_dropped_and_an_answer_read(browser, place, scheme):
    address, folder = place
    with page_of(browser, color_scheme=scheme, viewport=NARROW) as page:
        page.goto(address)
        assert violations(page) == [] and is_narrow(page)
        page.fill("#text", TEXT)
        select(page, len("X Super G in Vail,\nno "), len("Super G"))
        assert page.input_value("#mention") == "Super G"
        assert (page.input_value("#start"), page.input_value("#end")) == ("22", "29")
        page.evaluate(DROP, ["#drop", "new.jpg", list((folder / "picture.jpg").read_bytes())])
        page.wait_for_selector("#thumbnail:visible")
        page.keyboard.press("Tab")
        page.click("#link")
        page.wait_for_selector(".candidates")
        assert page.inner_text("#answer-title") == "“Super G” is Super-G (Q0)"
        assert page.inner_text("#status") == "“Super G” is Super-G (Q0)"
        assert page.evaluate("document.activeElement.id") == "answer"
        assert "no <mark>Super G</mark>" in page.inner_html("blockquote")
        assert "no picture" not in page.inner_text(".candidates li:first-child table")
        assert page.locator(".candidates li").count() == 5 and page.locator("script").count() == 1
        page.wait_for_function("() => document.querySelector('.candidates img').naturalWidth === 160")
        assert violations(page) == [] and is_narrow(page)
        assert page.complaints == [] and all(url.startswith(f"{address}/") for url in page.asked)


def test_a_mention_that_stands_twice_is_chosen_by_keyboard_and_a_refusal_is_said(browser, place):
    with page_of(browser, viewport=NARROW) as page:
        page.goto(place[0])
        page.fill("#text", TEXT)
        page.fill("#mention", "Super G")
        page.keyboard.press("Enter")
        page.wait_for_selector("#places")
        assert page.evaluate("document.activeElement.value") == "2" and violations(page) == []
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".candidates")
        assert "no <mark>Super G</mark>" in page.inner_html("blockquote") and page.locator("#places").count() == 0
        page.fill("#mention", "fail")
        page.fill("#text", "fail")
        page.click("#link")
        page.wait_for_selector("[role=alert]")
        assert "Error:" in page.inner_text("#answer") and page.input_value("#text") == "fail"
        assert violations(page) == []


def test_without_javascript_the_form_is_sent_and_answered(browser, place):
    address, folder = place
    with page_of(browser, java_script_enabled=False, viewport=NARROW) as page:
        page.goto(address)
        assert not page.is_visible(".scripted")
        page.fill("#text", TEXT)
        page.fill("#mention", "Vail")
        page.set_input_files("#image", folder / "picture.jpg")
        page.click("#link")
        assert page.inner_text("#answer-title") == "“Vail” is Super-G (Q0)"
        assert "no picture" not in page.inner_text(".candidates li:first-child table")
        page.fill("#mention", "Super G")
        page.click("#link")
        page.click("#places li:last-child button")
        assert "no <mark>Super G</mark>" in page.inner_html("blockquote")
        assert page.complaints == [] and all(url.startswith(f"{address}/") for url in page.asked)
