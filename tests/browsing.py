"""Debian's Chromium for tests of pages: headless, and without a way out of this machine."""

import contextlib
import os
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
NARROW = {"width": 360, "height": 640}
ARGUMENTS = ["--disable-gpu", "--disable-dev-shm-usage"]  # containers have little of /dev/shm


@contextlib.contextmanager
def chromium():
    """Yield a browser; the test is skipped, with the reason, where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGUMENTS, *alone])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_of(browser, **options):
    """Yield a page whose requests are noted in `page.asked`, and what it complains of in `page.complaints`."""
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()


def violations(page):
    """What axe finds wrong, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in found]
