"""Workers on real clusters, where these can be had: `pytest -m slow tests/torture/test_clusters.py`."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import numpy as tensors

from cache.remotes.meeting_names import MEETING
from torture.clusters import apart, engines, noted, tiny_worker, trial
from torture.clusters.commands import NAMES, Commanded
from torture.clusters.engines import ENGINES
from torture.clusters.slurm_cluster import CannotStartError
from torture.clusters.tiny_machine import Machine
from torture.clusters.trial import Trial
from torture.tiny_cache import PARTS
from workers.engine import Engine

SEED = 4
GONE = f"{1 << 30} - - -"  # no process
LEAST = {"local": 1, "slurm": 5, "ray": 2, "remote": 1}  # trials


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


def series(folder, seconds=1.0, **more):
    """Write what a series of one seed leaves, and what its process has noted."""
    files = {"results.json": {"top1": 0.5, "seconds": seconds, "seeds": [{"seconds": seconds}]}} | more
    (folder / "run/bert").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / "run/bert" / name).write_text(json.dumps(content))
    tensors.save_file({"weight": np.ones(2, np.float32)}, folder / "run/bert/seed-0.safetensors")
    (folder / "record").write_text(f"start {GONE}\nrange bert:0 {GONE}\nended bert:0\n")


@pytest.fixture
def commanded(tmp_path):
    """A series with workers that has ended as one process does, but for times."""
    found = Commanded(tmp_path / "real", "compare", SEED, ())
    series(found.record.parent, seconds=2.0)
    series(found.alone)
    shutil.rmtree(tmp_path / "toy")
    return found


def test_a_series_that_ended_as_that_of_one_process_has_no_problem(commanded):
    assert commanded.problems(0) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda run, record: series(run.parent, more={}), "bert/more: of one alone"),
        (lambda run, record: (run / "bert/results.json").write_text('{"top1": 0.25}'), "bert/results.json differs"),
        (lambda run, record: tensors.save_file({"weight": np.zeros(2, np.float32)}, run / "bert/seed-0.safetensors"),
         "bert/seed-0.safetensors differs"),
        (lambda run, record: (run / "bert/seed-0.safetensors").unlink(), "bert/seed-0.safetensors: of one alone"),
        (lambda run, record: (run / ".workers").mkdir(), "left behind: ['.workers']"),
        (lambda run, record: record.write_text(record.read_text() + "ended bert:0\n"), "finished otherwise than once"),
        (lambda run, record: record.write_text(f"range bert:0 {GONE}\n" + record.read_text()), "1 begun in vain"),
        (lambda run, record: record.write_text(f"range bert:0 {GONE}\n"), "finished otherwise than once"),
    ],
)  # fmt: skip
def test_what_a_series_must_not_leave_is_found(commanded, wrong, said):
    wrong(commanded.place, commanded.record)
    (problem,) = commanded.problems(0)
    assert problem.startswith(said)


def test_what_slurm_refuses_must_be_told_in_a_line():
    assert engines._refused(["Slurm refuses the job: invalid partition specified: nowhere; Batch job"]) == []
    for said in ([], ["a", "invalid partition specified: nowhere"], ["invalid partition specified: nowhere\n"], ["a"]):
        assert engines._refused(said) != []


def test_turns_try_all_real_commands():
    assert {engines.command(seed) for seed in range(SEED, SEED + len(NAMES))} == set(NAMES)
    assert engines.command(SEED) != "extract", "the one that CI tries is short"


def test_a_noted_process_lets_workers_be_noted(tmp_path):
    work = noted._work("train", "train", ("compare",), ("compare",), tmp_path, "seeds", 3, int)
    assert (work.module, work.words, work.finish) == ("torture.clusters.noted", *[("train", "compare")] * 2)


def test_a_noted_process_begins_nothing_before_the_gate_is_open(tmp_path, monkeypatch):
    record, slept = tmp_path / "record", []

    def sleep(seconds):
        slept.append(record.read_text())
        tiny_worker.gate_of(record).touch()

    monkeypatch.setattr(noted, "time", SimpleNamespace(sleep=sleep))
    assert noted._at(record, "bert:0", lambda: 7) == 7
    assert len(slept) == 1 and slept[0].startswith("range bert:0 ")
    assert record.read_text().splitlines()[1:] == ["ended bert:0"]


def test_a_trial_of_machines_finds_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "RANGES", 5)
    monkeypatch.setattr(apart, "Machine", partial(Machine, parts=PARTS, poll=0.01))
    for letter in "abc":
        apart.Machine(tmp_path / letter / "tiny", str(tmp_path / "remote"), tmp_path / f"log-{letter}", SEED).work()
    assert apart._problems(tmp_path, SEED) == []
    (tmp_path / "remote" / MEETING).mkdir()
    with (tmp_path / "log-b").open("a") as log:
        log.write("range entity-00000\n" * 4)
    shutil.rmtree(tmp_path / "c")
    apart.Machine(tmp_path / "c/tiny", str(tmp_path / "r"), tmp_path / "log-d", SEED + 1).work()
    shutil.rmtree(tmp_path / "alone")
    wrong = apart._problems(tmp_path, SEED)
    assert [problem.split()[0] for problem in wrong] == ["another", "9", "left"] and "c/tiny" in wrong[0]
