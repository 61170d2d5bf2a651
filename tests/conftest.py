"""What tests share: no remote or make of the developer's, one set of toy encoders, and a look at extractions."""

import os
import signal
import sys
from importlib import import_module

import pytest

from common.threads import sleep_when_waiting
from tests.worlds import synthetic_cache

OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")  # a make of a test is not one within `make test`

FORKING = ("test_torture.py", "test_sabotage.py", "test_bad_input.py", "test_regex.py")


# test files that extract again and again; test_encoders.py and test_weights.py build every encoder anew
EXTRACTING = ("bad_input", "extract", "fetch", "names", "parts", "plan", "stale", "unlabeled")
LOADERS = {"resnet": "_load", "clip": "_load", "detector": "_load", "bert_files": "load"}
toys = {}


def pytest_configure():
    sleep_when_waiting()  # before the tests import torch
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs behind it ignore Ctrl-C
    os.environ["OMP_NUM_THREADS"] = "1"  # small models, and a process for each core: pytest-xdist
    for name in ("MELCACHE_REMOTE", "MELCACHE_MAKE", "MELCACHE_TARGETS", *OF_MAKE):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items):
    """Run first what forks often: a fork of the gigabytes that the other tests leave takes longer than its work."""
    items.sort(key=lambda item: item.path.name not in FORKING)


@pytest.fixture(scope="module", autouse=True)
def toys_are_built_once(request):
    """Let extractions share toy encoders, whose untrained weights would take a fifth of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.stem.removeprefix("test_") in EXTRACTING:
            for name, loader in LOADERS.items():
                module = import_module(f"extract.encoders.{name}")
                patch.setattr(module, loader, _once(name, getattr(module, loader)))
        yield


def _once(name, load):
    def loaded(path, *given):
        if path is not None:
            return load(path, *given)
        key = (name, str(given))
        if key not in toys:
            toys[key] = load(path, *given)
        return toys[key]

    return loaded


@pytest.fixture(autouse=True)
def one_thread_again():
    """A test may have let torch take more threads than the one that OMP_NUM_THREADS gave it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory):
    """The folder of a small synthetic cache named toy; tests only read it."""
    return synthetic_cache(tmp_path_factory.mktemp("synthetic") / "toy")


@pytest.fixture(scope="session")
def two_caches(tmp_path_factory):
    """A folder with two caches of one dataset, one/toy and two/toy, of different numbers; tests only read them."""
    place = tmp_path_factory.mktemp("two-caches")
    for seed, name in enumerate(("one", "two")):
        synthetic_cache(place / name / "toy", seed, "drin,clip")
    return place


@pytest.fixture
def without_fsync(monkeypatch):
    """Skip fsync, where a test would call it a thousand times."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


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
