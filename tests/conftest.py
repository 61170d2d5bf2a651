"""What tests share: no remote of the developer's, and a look at extractions."""

import os

import pytest


def pytest_configure():
    os.environ.pop("MELCACHE_REMOTE", None)


@pytest.fixture
def watched(monkeypatch):
    """The Work objects of the extractions of a test, in order."""
    from extract import pipeline  # torch: not for tests that have nothing to do with it

    seen = []

    class Watched(pipeline.Work):
        def __init__(self, *arguments):
            seen.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(pipeline, "Work", Watched)
    return seen
