"""Workers on real clusters, where these can be had: `pytest -m slow tests/torture/test_clusters.py`."""

import shutil

import pytest

from torture.clusters import tiny_worker, trial
from torture.clusters.engines import ENGINES
from torture.clusters.slurm_cluster import CannotStartError
from torture.clusters.trial import Trial
from workers.engine import Engine

SEED = 3
LEAST = {"local": 1, "slurm": 3, "ray": 1}  # trials


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_workers_that_are_disturbed_make_the_cache_of_one(name, tmp_path):
    lacking, trials = ENGINES[name]
    if reason := lacking():
        pytest.skip(f"{name}: {reason}")
    try:
        found = dict(trials(tmp_path / name, SEED))
    except CannotStartError as error:
        pytest.skip(f"{name}: {error}")
    assert len(found) == LEAST[name] and not any(found.values()), found


@pytest.fixture
def two_at_once(tmp_path, monkeypatch):
    """The trial of two processes that nobody disturbs, ended."""
    monkeypatch.setattr(trial, "RANGE_SECONDS", 0.0)
    with Trial(tmp_path / "trial", SEED, Engine("local", 2)) as found:
        found.workers(1)
    return found, tmp_path / "trial"


def test_what_a_trial_must_find_it_finds(two_at_once):
    found, folder = two_at_once
    assert found.problems(2) == []
    shutil.rmtree(folder / "tiny")
    tiny_worker.work(folder / "tiny", SEED + 1, folder / "record", 0)  # 40 ranges, all of another world
    (folder / "tiny/.claim-entity-00001").touch()
    wrong = found.problems(2)
    assert [problem.split()[0] for problem in wrong] == ["the", "80", "left", "alive:"] and "claim-entity" in wrong[2]
