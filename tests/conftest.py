"""What tests share: no remote of the developer's, and a look at extractions."""

import os

import pytest

from common.threads import sleep_when_waiting

FORKING = ("test_torture.py", "test_sabotage.py", "test_bad_input.py", "test_regex.py")


def pytest_configure():
    sleep_when_waiting()  # before the tests import torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models, and a process for each core: pytest-xdist
    os.environ.pop("MELCACHE_REMOTE", None)


def pytest_collection_modifyitems(items):
    """Run first what forks often: a fork of the gigabytes that the other tests leave takes longer than its work."""
    items.sort(key=lambda item: item.path.name not in FORKING)


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
