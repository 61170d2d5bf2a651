"""Several workers train the runs of one command: each seed once, and all numbers as one process has them."""

import json
import os
import re
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import cache
from cache import store
from common.commands import Command, program
from common.errors import BusyError, ConfigError, DeniedError
from common.options import as_words, given_words
from tests.forked import Forked
from tests.studies import run_study
from tests.worlds import synthetic_cache
from torture.processes import child, doomed, until
from train import cli, loop
from train.config import TrainConfig, resolved
from train.config.studies import CompareConfig, SweepConfig
from train.data.table import Table
from train.dividing import division, shared_work, tasks
from train.dividing.config import WorkersConfig
from train.heads.registry import HEADS
from train.optimizing.training_state import Training
from train.run_folder.run_files import UnreadableError
from train.searching import sweep
from train.searching.asking import STARTUP
from workers import local

pytestmark = pytest.mark.usefixtures("without_fsync")
OPTIONS = "--models bert,drin --seeds 0,1 --epochs 2 --width 8".split()
VARY = ["--model", "bert", "--epochs", "1", "--width", "8", "--seeds", "0,1"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return synthetic_cache(tmp_path_factory.mktemp("toy") / "toy", heads="bert,drin")


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    """The folder of a comparison that one process makes."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    done = run_study("compare", toy, folder, *OPTIONS)
    assert done.exit_code == 0, done.output
    return folder


def command(words, exit_code=0):
    """Run a command line of `python -m train` in this process."""
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == exit_code, done.output


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What was trained, a line for each group of seeds that begins or goes on, by all processes that are forked."""
    path, real = tmp_path / "log", loop.fit_seeds
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def fit_seeds(run, seeds, half, *rest):
        begun = f" after {half.what['epoch']}" if half else ""
        os.write(descriptor, f"{run.config.model} {','.join(map(str, seeds))}{begun}\n".encode())
        return real(run, seeds, half, *rest)

    monkeypatch.setattr(loop, "fit_seeds", fit_seeds)
    return lambda: sorted(path.read_text().splitlines())


@pytest.fixture
def forks(monkeypatch):
    """Let workers be forks, and note the words that each was started with."""
    started = []

    def start(words, environment, log, work=command):
        started.append(words[3:])
        log.write_text("the last line")
        return Forked(lambda: work(words[3:]))

    monkeypatch.setattr(local, "start", start)
    monkeypatch.setattr(local, "LOOK", 0.01)
    monkeypatch.setattr(shared_work, "POLL", 0.01)
    return started


def timeless(value):
    """A JSON value without the times in it, and without the folder of the runs."""
    if isinstance(value, dict):
        left_out = ("seconds", "digest", "run")
        return {key: timeless(item) for key, item in value.items() if key not in left_out}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def assert_same_runs(folder, other):
    """All that a series leaves is the same but for times, weights and ranks to the bit."""
    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) == files
    for path in files:
        if path.suffix == ".safetensors":
            here, there = load_file(folder / path), load_file(other / path)
            assert here.keys() == there.keys() and all(here[name].equal(there[name]) for name in here)
        elif path.name == "metrics.jsonl":
            assert (folder / path).read_bytes() == (other / path).read_bytes()
        elif path.suffix == ".json":
            assert timeless(json.loads((folder / path).read_text())) == timeless(json.loads((other / path).read_text()))


def test_workers_train_each_seed_once_and_leave_what_one_process_leaves(toy, alone, tmp_path, forks, log):
    done = run_study("compare", toy, tmp_path / "run", *OPTIONS, "--workers-on", "local:2")
    assert done.exit_code == 0, done.output
    assert len(forks) == 2 and log() == ["bert 0", "bert 1", "drin 0", "drin 1"]
    assert_same_runs(tmp_path / "run", alone)
    again = run_study("compare", toy, tmp_path / "run", *OPTIONS, "--workers-on", "local:2")
    assert again.stdout == done.stdout and len(forks) == 2 and len(log()) == 4
    assert "0 of 2 runs to train" in done.stderr and "; trained by workers: bert, drin" in done.stderr
    assert "finished before" not in done.stderr and done.stderr.count("by a worker: best epoch ") == 4
    assert "; finished before: bert, drin" in again.stderr and "by a worker" not in again.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("compare")][1:] == [
        "compare: lexical", "compare, 1 of 2: bert", "compare, 2 of 2: drin"
    ]  # fmt: skip


def test_what_workers_have_reached_is_told_as_by_one_process(toy, tmp_path, forks):
    one = run_study("compare", toy, tmp_path / "one", *OPTIONS)
    many = run_study("compare", toy, tmp_path / "many", *OPTIONS, "--workers-on", "local:2")
    lines = [sorted(line for line in done.stderr.splitlines() if "best epoch" in line) for done in (one, many)]
    assert len(lines[0]) == 4 and lines[0] == [line.replace(", by a worker", "") for line in lines[1]]


def test_an_engine_that_cannot_be_had_is_refused_before_anything_is_removed(toy, tmp_path, monkeypatch):
    options = ["--models", "bert", "--seeds", "0", "--epochs", "1", "--width", "8"]
    assert run_study("compare", toy, tmp_path / "run", *options).exit_code == 0
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("PATH", "/nowhere")
    done = run_study("compare", toy, tmp_path / "run", *options, "--fresh", "--workers-on", "slurm:2")
    assert done.exit_code == 2 and "sbatch was not found" in done.stderr and sorted(tmp_path.rglob("*")) == before


def test_help_names_no_default_where_there_is_none():
    said = CliRunner().invoke(cli.app, ["compare", "--help"]).stdout
    assert "--slurm" in said and not re.search(r"default:\s*\]", said)


def test_what_workers_that_die_leave_the_command_trains(toy, alone, tmp_path, forks, log, monkeypatch):
    monkeypatch.setattr(local, "start", partial(local.start, work=lambda words: os._exit(7)))
    done = run_study("compare", toy, tmp_path / "run", *OPTIONS, "--workers-on", "local:2")
    assert done.exit_code == 0 and "worker 2 of 2 ended with status 7: the last line" in done.stderr
    assert log() == ["bert 0", "bert 1", "drin 0", "drin 1"]
    assert_same_runs(tmp_path / "run", alone)


def test_two_launchers_at_once_train_each_seed_once(toy, alone, tmp_path, forks, log):
    def launch():
        done = run_study("compare", toy, tmp_path / "run", *OPTIONS, "--workers-on", "local:1")
        assert done.exit_code == 0, done.output

    pids = [child(launch) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert log() == ["bert 0", "bert 1", "drin 0", "drin 1"]
    assert_same_runs(tmp_path / "run", alone)


# one worker


def run_of(toy, folder, seeds=(0, 1), epochs=3, model="bert"):
    """A run of a series in `folder`, and its head."""
    config = TrainConfig(
        dataset=str(toy), model=model, seeds=seeds, epochs=epochs, run=folder / model, threads=1, device="cpu"
    )
    return resolved(config), replace(HEADS[model].config(), width=8)


def tasks_in(toy, folder, **given):
    config, head = run_of(toy, folder, **given)
    return tasks.tasks_of(config, head, cache.open(toy), folder)


def test_what_a_killed_worker_was_at_goes_on_at_its_last_checkpoint(toy, tmp_path, log, monkeypatch):
    kept, real = tmp_path / "kept", Training.keep

    def keep(training, checkpoints):
        real(training, checkpoints)
        if training.epoch == 2:
            kept.touch()
            time.sleep(600)

    def victim():
        monkeypatch.setattr(Training, "keep", keep)
        shared_work.work(tasks_in(toy, tmp_path / "run"), tmp_path / "run", wait=False)

    monkeypatch.setattr("train.optimizing.training_state.CHECKPOINT_SHARE", 1e9)
    with doomed(victim):
        until(kept.exists, "the second epoch is kept")
    shared_work.work(tasks_in(toy, tmp_path / "run"), tmp_path / "run", wait=True)
    assert log() == ["bert 0", "bert 0 after 2", "bert 1"]
    config, head = run_of(toy, tmp_path / "other")
    expected = loop.fit(config, head)
    found = loop.fit(*run_of(toy, tmp_path / "run"))
    assert timeless(found["seeds"]) == timeless(expected["seeds"])


def test_what_another_is_at_is_left_to_it(toy, tmp_path, log, capsys, monkeypatch):
    mine = tasks_in(toy, tmp_path)
    mine[0].area.mkdir()
    slept = []

    def sleep(seconds):
        slept.append(log())
        for task in mine[:1]:
            task.train()

    monkeypatch.setattr(shared_work.time, "sleep", sleep)
    theirs = shared_work.Claims(mine[0].area)
    with theirs.named("bert-0") as claimed:
        assert claimed
        shared_work.work(mine, tmp_path, wait=False)
        assert log() == ["bert 1"] and not slept
        shared_work.work(mine, tmp_path, wait=True)
    assert slept == [["bert 1"]] and log() == ["bert 0", "bert 1"]
    assert "1 trainings are under way in other processes; waiting" in capsys.readouterr().err


def test_a_task_that_is_finished_between_two_looks_is_not_trained(toy, tmp_path, log, monkeypatch):
    (first,) = tasks_in(toy, tmp_path, seeds=(0,))
    real = shared_work.Claims.named

    def named(claims, name):
        first.train()
        return real(claims, name)

    monkeypatch.setattr(shared_work.Claims, "named", named)
    shared_work.work([first], tmp_path, wait=True)
    assert log() == ["bert 0"]


def test_a_claim_that_lapses_of_a_worker_that_lives_trains_nothing_twice(toy, tmp_path, log):
    (one,) = tasks_in(toy, tmp_path, seeds=(0,))
    with store.alone(one.area / "bert"):
        with pytest.raises(BusyError):
            one.train()
        shared_work.work([one], tmp_path, wait=False)
    assert log() == []


def test_the_longest_runs_begin_first(toy, tmp_path, log):
    both = [*tasks_in(toy, tmp_path, seeds=(0,), epochs=1), *tasks_in(toy, tmp_path, seeds=(0,), model="drin")]
    order = []
    real = tasks.Task.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.Task, "train", lambda task: (order.append(task.name), real(task)))
        shared_work.work(both, tmp_path, wait=False)
    assert order == ["drin", "bert"]


def test_half_done_seeds_of_the_run_itself_go_on(toy, tmp_path, log, monkeypatch):
    class Killed(BaseException):
        """A kill, without a second process."""

    real = Training.keep

    def keep(training, checkpoints):
        real(training, checkpoints)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Training, "keep", keep)
        with pytest.raises(Killed):
            loop.fit(*run_of(toy, tmp_path))
    shared_work.work(tasks_in(toy, tmp_path), tmp_path, wait=False)
    assert log() == ["bert 0", "bert 0 after 1", "bert 1"]
    assert not (tmp_path / "bert/unfinished.safetensors").exists()


def test_files_that_a_kill_kept_from_being_handed_in_are_handed_in(toy, tmp_path, log, monkeypatch):
    (one,) = tasks_in(toy, tmp_path, seeds=(0,))
    moved, real = [], tasks._move

    def move(path, folder):
        if path.name.startswith("seed"):
            raise KeyboardInterrupt
        moved.append(path.name)
        real(path, folder)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "_move", move)
        with pytest.raises(KeyboardInterrupt):
            one.train()
    assert moved == ["ranks-0.safetensors", "scores-0.safetensors"] and not one.over
    shared_work.work(tasks_in(toy, tmp_path, seeds=(0,)), tmp_path, wait=False)
    assert log() == ["bert 0"] and one.over
    assert loop.fit(*run_of(toy, tmp_path, seeds=(0,)))["confidence"] is not None and log() == ["bert 0"]


def test_seeds_that_are_there_stay(toy, tmp_path):
    (one,) = tasks_in(toy, tmp_path, seeds=(0,))
    loop.fit(*run_of(toy, tmp_path, seeds=(0,)))
    before = {path.name: path.stat().st_ino for path in (tmp_path / "bert").glob("*.safetensors")}
    one.train()
    assert len(before) == 3
    assert {path.name: path.stat().st_ino for path in (tmp_path / "bert").glob("*.safetensors")} == before


def test_a_task_is_what_one_machine_trains_together(toy, tmp_path):
    config, head = run_of(toy, tmp_path, seeds=(3, 1))
    reader = cache.open(toy)
    for together, seeds in (("auto", [(3,), (1,)]), ("no", [(3,), (1,)]), ("yes", [(3, 1)])):
        found = tasks.tasks_of(replace(config, together=together), head, reader, tmp_path)
        assert [task.seeds for task in found] == seeds
    assert [task.name for task in found] == ["bert"]
    loop.fit(*run_of(toy, tmp_path, seeds=(3,)))
    for together, name in (("no", "bert-1"), ("yes", "bert")):  # of those that are left
        (left,) = tasks.tasks_of(replace(config, together=together), head, reader, tmp_path)
        assert (left.seeds, left.name) == ((1,), name)
    cuda = type("Device", (), {"type": "cuda"})()
    assert not tasks.apart(config, cuda) and tasks.apart(replace(config, together="no"), cuda)


def test_a_run_that_diverges_is_tried_by_one_worker_and_told_by_the_command(toy, tmp_path, forks, log):
    options = ["--models", "jmel", "--seeds", "0,1", "--epochs", "1", "--width", "8", "--temperature", "1e-44"]
    cached = synthetic_cache(tmp_path / "toy", heads="jmel")
    done = run_study("compare", cached, tmp_path / "run", *options, "--workers-on", "local:1")
    assert done.exit_code == 0 and "diverged: jmel: the training loss of seed 0 became nan" in done.stdout
    assert log() == ["jmel 0", "jmel 0"], "a worker, and the command, which says so"
    assert not (tmp_path / "run/.workers").exists()


def test_what_one_machine_cannot_train_is_left_to_others(toy, tmp_path, log, capsys, monkeypatch):
    """It trains all else first, and says why at its end."""
    real, begun = tasks.loop.fit, []
    errors = {
        "bert-0": ConfigError("--device cuda: this torch sees no CUDA device"),
        "bert-1": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nGPU 0 has"),
        "bert-2": MemoryError(),
        "bert-3": UnreadableError("ranks are unreadable here"),
    }

    def fit(config, head):
        begun.append(config.folder.name)
        if config.folder.name in errors:
            raise errors[config.folder.name]
        return real(config, head)

    def mine():
        return [
            *tasks_in(toy, tmp_path, seeds=(0, 1, 2, 3), epochs=2),
            *tasks_in(toy, tmp_path, seeds=(0,), model="drin", epochs=1),
        ]

    with monkeypatch.context() as patch:
        patch.setattr(tasks.loop, "fit", fit)
        with pytest.raises(ConfigError, match="this torch sees no CUDA device") as error:
            shared_work.work(mine(), tmp_path, wait=False)
    assert begun == [*errors, "drin"] and log() == ["drin 0"]
    assert error.value is not errors["bert-0"], "with its traceback it would keep the memory of what was tried"
    said = capsys.readouterr().err
    assert "bert-1 cannot be trained here: it needs more memory than is free here: CUDA out of memory. Tried" in said
    shared_work.work(mine(), tmp_path, wait=False)
    assert log() == ["bert 0", "bert 1", "bert 2", "bert 3", "drin 0"]


def test_a_run_that_no_worker_here_can_train_is_told_by_the_command(toy, tmp_path, forks, log, monkeypatch):
    real = loop.fit

    def fit(config, head, *rest):
        if config.model == "drin":
            raise ConfigError("this machine has no GPU")
        return real(config, head, *rest)

    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(local, "start", partial(local.start, work=lambda words: command(words, exit_code=2)))
    done = run_study("compare", toy, tmp_path / "run", *OPTIONS, "--workers-on", "local:2")
    assert done.exit_code == 0 and "not run: drin: this machine has no GPU" in done.stderr
    assert log() == ["bert 0", "bert 1"]


@pytest.mark.parametrize("why", ["nothing to train on", "options that do not fit"])
def test_a_run_that_no_machine_can_train_is_tried_once(toy, tmp_path, log, monkeypatch, why):
    begun, real = [], loop.fit
    given = {"objective": "in-batch"} if why.startswith("options") else {}
    if not given:
        monkeypatch.setattr(Table, "trainable", lambda table, rows, **more: rows[:0])
    monkeypatch.setattr(loop, "fit", lambda *what: (begun.append(what[0].model), real(*what)))
    config, head = run_of(toy, tmp_path, model="drin")
    for _ in range(2):
        own = tasks.tasks_of(replace(config, **given), head, cache.open(toy), tmp_path)
        shared_work.work(own, tmp_path, wait=False)
    assert all(task.failed for task in own) and begun == ["drin"] and log() == []


def test_a_command_alone_finishes_what_workers_left(toy, alone, tmp_path, log):
    run = tmp_path / "run"
    words = ["compare", "--dataset", str(toy), "--run", str(run), "--device", "cpu", "--threads", "1", *OPTIONS]
    real = Training.keep

    def keep(training, checkpoints):
        real(training, checkpoints)
        os._exit(3)

    def dies():
        Training.keep = keep
        command([*words, "--workers-on", "others"])

    assert os.waitstatus_to_exitcode(os.waitpid(child(dies), 0)[1]) == 3
    command(words)
    assert log() == ["bert 0", "bert 0 after 1", "bert 1", "drin 0", "drin 1"]
    assert_same_runs(run, alone)


def test_one_of_many_ends_when_nothing_is_left_and_shows_nothing(toy, tmp_path, log):
    done = run_study("compare", toy, tmp_path, *OPTIONS, "--workers-on", "others")
    assert done.exit_code == 0 and done.stdout == "" and not (tmp_path / "compare.json").exists()
    assert "shows the result when all are done" in done.stderr and len(log()) == 4


def test_fresh_begins_anew_once(toy, tmp_path, forks, log):
    options = ["--models", "bert", "--seeds", "0", "--epochs", "1", "--workers-on", "local:2"]
    assert run_study("compare", toy, tmp_path / "run", *options, "--width", "9").exit_code == 0
    refused = run_study("compare", toy, tmp_path / "run", *options, "--width", "8")
    assert refused.exit_code == 2 and "belongs to another run" in refused.stderr and len(forks) == 2
    assert run_study("compare", toy, tmp_path / "run", *options, "--width", "8", "--fresh").exit_code == 0
    assert log() == ["bert 0", "bert 0"] and not any("--fresh" in words for words in forks)
    with store.together(tmp_path / "run"):
        assert (
            "another process is writing to" in run_study("compare", toy, tmp_path / "run", *options, "--fresh").stderr
        )
    done = run_study("compare", toy, tmp_path / "run", *options[:-1], "others", "--fresh")
    assert done.exit_code == 2 and "--fresh with --workers-on others would remove what others train" in done.stderr


@pytest.mark.parametrize("given", ["local", "local:0", "many", "others:3"])
def test_what_is_no_engine_is_refused(given):
    with pytest.raises(ConfigError, match=f"--workers-on {given}: expected .*; or others$"):
        WorkersConfig(given)


def test_jobs_of_slurm_have_options_and_may_be_waited_for():
    found = WorkersConfig("slurm:3", "partition=gpu gpus=1", wait=True).engine
    assert (found.kind, found.count, found.wait) == ("slurm", 3, True) and "gpu" in str(found.options)
    for given in ({"slurm": "gpus=1"}, {"wait": True}):
        with pytest.raises(ConfigError, match="is for jobs of Slurm"):
            WorkersConfig("others", **given)


def test_cores_are_divided_and_the_number_of_threads_is_everywhere_the_same(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    given = cli.Given(WorkersConfig, {"workers_on": "local:5"})
    config, _, divided = division.of("compare", CompareConfig(), [given])
    assert config.threads == 3 and divided.words[:3] == ("compare", "--threads", "3") and "3" in divided.finish
    assert "those of one process with --threads 3" in capsys.readouterr().err
    config, _, divided = division.of("compare", CompareConfig(threads=2), [given])
    assert config.threads == 2 and divided.words == ("compare", "--threads", "2", "--workers-on", "others")


def test_every_option_reaches_a_worker():
    """What the command line makes of the words is what was given."""
    found = []

    def note(config, *given):
        """Note."""
        found.append((config, [dict(one.values) for one in given]))

    kinds = [cli.CONFIG_CLASSES[0], *cli.CONFIG_CLASSES[1:], WorkersConfig]
    app = program((Command("sweep", "x", SweepConfig, note, more=lambda words: kinds),), default="sweep")
    words = [
        "--vary", "layers=1,2", "--vary", "learning-rate=log:1e-4..1e-2", "--seeds", "3,1", "--width", "9",
        "--no-decay", "--edges", "text_to_text,image_to_image", "--trials", "3", "--dataset", "a b", "--option", "x=1",
    ]  # fmt: skip
    for given in (words, None):
        if given is None:
            config, given_heads = found[0]
            heads = [cli.Given(kind, values) for kind, values in zip(kinds, given_heads, strict=True)]
            given = [*as_words(config), *given_words(heads)]
        assert CliRunner().invoke(app, given, catch_exceptions=False).exit_code == 0
    assert found[0] == found[1] and found[0][0].vary and any(values.get("width") == 9 for values in found[0][1])


# searches


@pytest.mark.parametrize(
    ("vary", "sampler", "trials"),
    [
        (["learning-rate=log:1e-4..1e-1"], "random", 4),
        (["learning-rate=1e-3,1e-2", "batch=8,16"], "grid", 4),
        (["learning-rate=log:1e-4..1e-1"], "tpe", STARTUP + 2),
    ],
)
def test_trials_are_those_of_one_process(toy, tmp_path, forks, log, vary, sampler, trials):
    options = [*VARY, *(word for knob in vary for word in ("--vary", knob)), "--sampler", sampler]
    options += ["--trials", str(trials)]
    assert run_study("sweep", toy, tmp_path / "alone", *options).exit_code == 0
    by_one = log()
    done = run_study("sweep", toy, tmp_path / "run", *options, "--workers-on", "local:2")
    assert done.exit_code == 0, done.output
    assert log() == sorted([*by_one, *by_one]) and len(by_one) == 2 * trials
    assert not (tmp_path / "run/.workers").exists()
    for name in ("trials.json", "sweep.json"):
        here, there = (timeless(json.loads((tmp_path / of / name).read_text())) for of in ("run", "alone"))
        assert here == there


def test_workers_look_at_no_result_of_a_search_before_all_have_it(toy, tmp_path, monkeypatch):
    """Of TPE the first trials are asked at once, then one by one; a random search asks all at once."""
    asked = []
    monkeypatch.setattr("train.searching.shared_trials.shared_work.work", lambda own, *rest, **more: asked.append(own))
    monkeypatch.setattr("train.searching.shared_trials._seeds", lambda *given: [{"valid": {"top1": 0.5}}])
    for sampler, waves in (("tpe", [STARTUP, 1, 1]), ("random", [STARTUP + 2])):
        config = SweepConfig(
            dataset=str(toy), model="bert", vary=["learning-rate=log:1e-4..1e-1"], sampler=sampler, epochs=1,
            trials=STARTUP + 2, run=tmp_path / sampler, device="cpu",
        )  # fmt: skip
        assert sweep.search(config, HEADS["bert"].config(), division.Division(one_of_many=True)) is None
        assert [len(own) for own in asked] == waves
        asked.clear()


def test_a_series_whose_place_for_workers_is_taken_says_so(toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / tasks.AREA).write_text("")
    with pytest.raises(DeniedError, match=r"cannot make the folder .*\.workers: File exists\. Move what has that name"):
        shared_work.work(tasks_in(toy, tmp_path / "run"), tmp_path / "run", wait=True)
