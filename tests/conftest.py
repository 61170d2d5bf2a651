"""What tests share: no remote or make of the developer's, one set of toy encoders, and a look at extractions.

Imports of ours stand in fixtures: numpy reads OMP_NUM_THREADS when it is imported, which pytest_configure comes before.
"""

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

import pytest

from common.threads import sleep_when_waiting

OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")  # a make of a test is not one within `make test`

LOADERS = {"resnet": "_load", "joint.clip": "_load", "detector": "_load", "text.bert_files": "load"}
built = {}


def pytest_configure():
    sleep_when_waiting()  # before the tests import torch
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs behind it ignore Ctrl-C
    os.environ["OMP_NUM_THREADS"] = "1"  # small models, and a process for each core: pytest-xdist
    for name in ("MELCACHE_REMOTE", "MELCACHE_MAKE", "MELCACHE_TARGETS", *OF_MAKE):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def small_process():
    """A function that runs another in a process of its own and returns what that returns.

    For work that forks often: a fork of the gigabytes that other tests leave here takes longer than what it is for.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda work, *given: pool.submit(work, *given).result()


@pytest.fixture(scope="module")
def toys_built_once():
    """Let the extractions of a file share toy encoders, whose weights would take a fifth of their time to draw."""
    with pytest.MonkeyPatch.context() as patch:
        for name, loader in LOADERS.items():
            module = import_module(f"extract.encoders.{name}")
            patch.setattr(module, loader, _once(name, getattr(module, loader)))
        yield


def _once(name, load):
    def loaded(path, *given):
        if path is not None:
            return load(path, *given)
        key = (name, str(given))
        if key not in built:
            built[key] = load(path, *given)
        return built[key]

    return loaded


@pytest.fixture(autouse=True)
def one_thread_again():
    """A test may have let torch take more threads than the one that OMP_NUM_THREADS gave it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def heads_forgotten():
    """Heads from files are known to a process once loaded: those that a test loads are forgotten behind it."""
    from train.heads.registry import HEADS

    before = dict(HEADS)
    yield
    HEADS.clear()
    HEADS.update(before)


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory):
    """The folder of a small synthetic cache named toy; tests only read it."""
    from tests.worlds import synthetic_cache

    return synthetic_cache(tmp_path_factory.mktemp("synthetic") / "toy")


@pytest.fixture(scope="session")
def two_caches(tmp_path_factory):
    """A folder with two caches of one dataset, one/toy and two/toy, of different numbers; tests only read them."""
    from tests.worlds import synthetic_cache

    place = tmp_path_factory.mktemp("two-caches")
    for seed, name in enumerate(("one", "two")):
        synthetic_cache(place / name / "toy", seed, "drin,clip")
    return place


@pytest.fixture(scope="session")
def wikidiverse(tmp_path_factory):
    """The folder of a synthetic cache that studies train on, named as a dataset with published numbers."""
    from tests.worlds import signal_cache

    folder = tmp_path_factory.mktemp("studies") / "wikidiverse"
    return signal_cache(folder, 600, 150, 6, 0.4, "lexical,prior,clip,bert,jmel,clip_linear,drin")


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
