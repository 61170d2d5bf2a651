"""A report in Chromium, opened from disk: filters, keys, links, two runs, no JavaScript, narrow, light and dark."""

import pytest

from tests.browsing import NARROW, chromium, page_of, violations

WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def chosen(page):
    """The ids of the mentions that can be seen."""
    return page.evaluate("[...document.querySelectorAll('.card')].filter((x) => x.checkVisibility()).map((x) => x.id)")


def rows(page):
    """The addresses in the list, without the folder."""
    links = page.evaluate("[...document.querySelectorAll('.rows a')].map((x) => x.getAttribute('href'))")
    return [link.partition("#")[2] for link in links]


def is_narrow(page):
    """Whether nothing stands out to the right."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def at_home(page, folder):
    """Whether no request left the folder, and nothing was complained of."""
    return page.complaints == [] and all(url.startswith((f"file://{folder}/", "data:,")) for url in page.asked)


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROW)], ids=["light", "dark"])
def test_pages_break_no_rule_of_axe_and_fit(browser, made, scheme, size):
    with page_of(browser, color_scheme=scheme, viewport=size) as page:
        for name in ("index.html", "mentions-002.html"):
            page.goto(f"file://{made}/{name}")
            assert violations(page) == [] and is_narrow(page)
        page.keyboard.press("?")
        assert page.is_visible("dialog.keys") and violations(page) == []


def test_keys_go_through_all_mentions_page_after_page(browser, made):
    with page_of(browser, viewport=WIDE) as page:
        page.goto(f"file://{made}/mentions-001.html")
        order = rows(page)
        assert len(order) == 12 and chosen(page) == order[:1]
        for wanted in order[1:]:
            page.keyboard.press("j")
            page.wait_for_function("(id) => document.querySelector('.card.chosen')?.id === id", arg=wanted)
        assert page.url.split("/")[-1] == f"mentions-003.html#{order[-1]}" and chosen(page) == order[-1:]
        page.keyboard.press("j")  # there is no other
        page.keyboard.press("k")
        page.wait_for_function("(id) => document.querySelector('.card.chosen')?.id === id", arg=order[-2])
        assert page.evaluate("document.activeElement.closest('.card')?.id") == order[-2]
        page.go_back()
        page.wait_for_function("(id) => document.querySelector('.card.chosen')?.id === id", arg=order[-1])
        assert at_home(page, made)


def test_a_permanent_link_shows_its_mention_and_the_next_error_follows(browser, made):
    with page_of(browser) as page:
        page.goto(f"file://{made}/mentions-001.html")
        order = rows(page)
        page.goto(f"file://{made}/mentions-002.html#{order[6]}")
        assert chosen(page) == order[6:7]
        assert page.get_attribute("[aria-current=true]", "href").endswith(order[6])
        wrong = page.evaluate("all.map((row) => row[7].some((said) => said[0] !== 'right'))")
        after = next(place for place in range(7, 12) if wrong[place])
        page.keyboard.press("e")
        page.wait_for_function("(id) => document.querySelector('.card.chosen')?.id === id", arg=order[after])
        assert at_home(page, made)


def test_filters_search_and_comparisons_list_what_they_say(browser, made):
    with page_of(browser, viewport=NARROW) as page:
        page.goto(f"file://{made}/mentions-001.html")
        said = page.evaluate("all.map((row) => [row[0], row[7].map((one) => one[0]), row[7].map((one) => one[2])])")
        right = {name: [outcome == "right" for outcome in outcomes] for name, outcomes, _ in said}
        for button, wanted in (
            ("only A right", [True, False]),
            ("only B right", [False, True]),
            ("both wrong", [False] * 2),
        ):
            page.click(f"text={button}")
            assert rows(page) == [name for name, found in right.items() if found == wanted]
            assert page.inner_text(".count") == f"{len(rows(page))} of 12 mentions"
        page.click(".quick >> text=all")
        page.select_option("[name=kind]", "unseen")
        assert rows(page) == [name for name, _, marks in said if any("unseen" in own for own in marks)]
        page.select_option("[name=kind]", "")
        page.keyboard.press("/")
        page.fill("[name=q]", "M25 ")
        assert len(rows(page)) == 1 and chosen(page) == rows(page)
        page.keyboard.press("Enter")
        page.fill("[name=q]", "no such text")
        assert rows(page) == [] and page.inner_text(".count") == "0 of 12 mentions"
        assert page.evaluate("typeof boom") == "undefined" and at_home(page, made)


def test_a_link_of_the_summary_opens_what_it_counts(browser, made):
    with page_of(browser) as page:
        page.goto(f"file://{made}/index.html")
        link = page.locator("a[href='mentions-001.html?A=not-listed']")
        assert link.inner_text() == "1"
        link.click()
        page.wait_for_url("**/mentions-003.html?*")  # where the only one is
        assert page.inner_text(".count") == "1 of 12 mentions" and chosen(page) == rows(page)
        assert "gold not retrieved" in page.inner_text(".card.chosen .said") and at_home(page, made)


def test_without_javascript_every_mention_is_a_table_and_pages_follow(browser, made):
    with page_of(browser, java_script_enabled=False, viewport=NARROW) as page:
        page.goto(f"file://{made}/mentions-001.html")
        assert page.locator(".card:visible table.candidates:visible").count() == 5
        assert not page.is_visible(".list")
        page.click(".pager >> nth=0 >> text=Next")
        page.click(".pager >> nth=1 >> text=Next")
        assert page.url.endswith("mentions-003.html") and page.locator(".card:visible").count() == 2
        page.click("text=Summary")
        assert page.is_visible("text=Accuracy on test") and page.locator("svg[role=img]:visible").count() >= 3
        assert at_home(page, made)


def test_pictures_and_edges_are_drawn(browser, made):
    with page_of(browser) as page:
        page.goto(f"file://{made}/mentions-001.html")
        page.wait_for_function("[...document.querySelectorAll('.card.chosen img')].every((x) => x.naturalWidth > 0)")
        figure = page.locator(".card.chosen .edges svg").first
        assert figure.get_attribute("aria-label").startswith("Edges to ") and figure.locator("rect").count() == 4
