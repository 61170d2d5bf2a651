"""What tests of reports share: a world with its runs, and a report of them."""

import pytest

from report import build
from tests import reports


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a cache, its release and two runs; tests only read it."""
    place = tmp_path_factory.mktemp("world")
    reports.world(place)
    reports.train(place)
    return place


@pytest.fixture(scope="session")
def made(world, tmp_path_factory):
    """The report of both runs, five mentions a page; tests only read it."""
    out = tmp_path_factory.mktemp("made") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "PER_PAGE", 5)
        patch.setattr(build, "PER_SCRIPT", 7)
        build.report(reports.config(world, out))
    return out
