"""--workers-on local:N: processes that divide the ranges, GPUs and cores; what becomes of those that fail."""

import os
import re
import signal
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import melcache
from common.commands import Command, program
from common.errors import ConfigError, WorkersError
from common.options import as_words
from common.paths import names
from extract import beginning, pipeline
from extract.config import ExtractConfig
from extract.encoders.compute import Compute
from tests.forked import Forked
from tests.worlds import entity_record, extract_config, mention_record, write_release
from workers import keeper, launch, local
from workers.engine import Engine
from workers.work import Work, command

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
config = partial(extract_config, candidates=2, shard_rows=2)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    places = [f"Place{i}" for i in range(8)]
    return write_release(
        tmp_path_factory.mktemp("release"),
        [mention_record(i, f"a day in {name}", name, gold=f"e{i}") for i, name in enumerate(places)],
        [entity_record(i, name, "a place") for i, name in enumerate(places)],
    )


@pytest.fixture
def forks(monkeypatch):
    """Let workers be forks, and note what each was started with."""
    started = []

    def start(words, environment, log, work=pipeline.run):
        assert words[:3] == [sys.executable, "-m", "extract"]
        config = given_by(words[3:])
        started.append((config, environment))
        log.write_text("first\nthe last line")
        return Forked(lambda: work(config))

    monkeypatch.setattr(local, "start", start)
    monkeypatch.setattr(local, "LOOK", 0.01)
    return started


def test_processes_make_the_cache_of_one_and_the_launcher_computes_nothing(release, tmp_path, forks, watched):
    alone = melcache.open(pipeline.run(config(release, tmp_path / "alone")))
    made = watched[-1].draft.made
    found = melcache.open(pipeline.run(config(release, tmp_path / "many", workers_on="local:3")))
    assert found.id == alone.id and made > 0 and watched[-1].draft.made == 0
    assert len(forks) == 3 and all(given.workers_on is None and given.remote == "" for given, _ in forks)
    assert not [name for name in os.listdir(tmp_path / "many/world") if name.startswith(".")]
    pipeline.run(config(release, tmp_path / "many", workers_on="local:3"))
    assert len(forks) == 3, "nothing is missing, nobody is asked"


def test_what_dead_workers_leave_the_launcher_computes(release, tmp_path, forks, monkeypatch, capsys):
    started = partial(local.start, work=lambda config: os._exit(7))
    monkeypatch.setattr(local, "start", started)
    alone = melcache.open(pipeline.run(config(release, tmp_path / "alone")))
    assert melcache.open(pipeline.run(config(release, tmp_path / "many", workers_on="local:2"))).id == alone.id
    said = capsys.readouterr().err
    assert said.count("ended with status 7: the last line") == 2 and "worker 2 of 2" in said


def test_an_interrupt_ends_the_workers(release, tmp_path, forks, monkeypatch):
    monkeypatch.setattr(local, "start", partial(local.start, work=lambda config: time.sleep(600)))
    workers = []

    def interrupted(these, task):
        workers.extend(these)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config(release, tmp_path, workers_on="local:2"))
    assert [worker.returncode for worker in workers] == [-signal.SIGTERM] * 2


def test_each_worker_has_its_share_of_cores_and_its_gpu(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = [local._environment(place, 3) for place in range(3)]
    assert [given["OMP_NUM_THREADS"] for given in found] == ["5"] * 3
    assert [given["CUDA_VISIBLE_DEVICES"] for given in found] == ["4", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert "CUDA_VISIBLE_DEVICES" not in local._environment(1, 64)
    assert local._environment(1, 64) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert local._environment(1, 64) == {}, "who says so decides"


@pytest.mark.parametrize(("gpus", "told"), [("", True), ("0", False)])
def test_more_processes_than_cores_are_told_where_there_is_no_gpu(tmp_path, monkeypatch, capsys, gpus, told):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    work = Work("extract", (), (), tmp_path, "shards", 1, lambda: 0)
    monkeypatch.setattr(local, "start", lambda words, environment, log: Forked(lambda: None))
    local.run(Engine("local", 2), work)
    assert ("2 workers share 1 cores, and no GPU: 1 would be as fast at least" in capsys.readouterr().err) is told


def given_by(words):
    """Return the config that the command line makes of words."""
    found = []
    command = Command("extract", "Make a cache", ExtractConfig, found.append)
    said = CliRunner().invoke(program((command,), default="extract"), words, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return found[0]


def test_every_knob_reaches_a_worker(release, tmp_path):
    plain = config(release, tmp_path, max_missing=1.0, remote="")
    assert given_by(as_words(plain)) == plain
    odd = config(
        release, tmp_path, heads=("ghmfc", "dwe"), candidates_from=("text", "names"), limit=3, infer_gender=True,
        strict=True, text="a model", query_prompt="-- query: ", detector="v2", storage="int8",
        descriptions=tmp_path / "a b.jsonl",
    )  # fmt: skip
    assert given_by(as_words(odd)) == odd


def test_a_worker_is_started_with_its_options_and_its_log(release, tmp_path, monkeypatch):
    """A process of its own, whose interpreter prints what it is given in place of importing torch."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    given = config(release, tmp_path, query_prompt="two words ", text="a model")
    words = command("extract", tuple(as_words(given)))
    assert local.start(words, {"OMP_NUM_THREADS": "3"}, tmp_path / "log").wait() == 0
    threads, *words = (tmp_path / "log").read_text().removesuffix("\n").split("\n")
    assert threads == "3" and [str(script), *words] == keeper.with_parent(words[3:])
    assert words[3:6] == [str(script), "-m", "extract"] and given_by(words[6:]) == given


def test_a_worker_that_does_not_end_when_bidden_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PATIENCE", 0.2)
    log = tmp_path / "log"
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    worker = local.start([sys.executable, "-c", deaf], {}, log)
    until = time.monotonic() + 60
    while "deaf" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    local.end([worker])
    assert worker.returncode == -signal.SIGKILL


def test_a_start_that_fails_ends_those_before_it(monkeypatch, tmp_path):
    ended, first = [], object()

    def start(words, environment, log):
        if log.name == "1.log":
            raise OSError("no memory for another")
        return first

    monkeypatch.setattr(local, "start", start)
    monkeypatch.setattr(local, "end", ended.extend)
    with pytest.raises(OSError, match="no memory"):
        local.run(Engine("local", 3), Work("extract", (), (), tmp_path, "shards", 1, int))
    assert ended == [first]


def test_what_is_no_engine_is_refused_before_anything_is_read(release, tmp_path):
    with pytest.raises(ConfigError, match=r"--workers-on local:0: expected local:N, slurm:N, ray, ray:N"):
        config(release, tmp_path, workers_on="local:0")
    with pytest.raises(ConfigError, match=r"--slurm: array is set by melcache"):
        config(release, tmp_path, workers_on="slurm:2", slurm="array=1-9")


def test_jobs_that_go_on_by_themselves_finish_and_keep_their_plan(release, tmp_path, monkeypatch, watched):
    tasks = []

    def run(engine, work):
        tasks.append((engine, work))
        work.alone.set()
        return False

    monkeypatch.setattr(launch, "check", lambda engine, folder: False)
    monkeypatch.setattr(launch, "run", run)
    folder = pipeline.run(config(release, tmp_path, workers_on="slurm:2", slurm="partition=gpu"))
    [(engine, work)] = tasks
    assert (engine.kind, engine.count, engine.options) == ("slurm", 2, (("partition", "gpu"),))
    assert watched[-1].draft.made == 0 and not (folder / "manifest.json").exists()
    worker, last = given_by(list(work.words)), given_by(list(work.finish))
    assert worker.by_plan and worker.workers_on is None and last.workers_on is None and last.slurm == ""
    assert melcache.open(pipeline.run(worker)).id == melcache.open(pipeline.run(config(release, tmp_path / "alone"))).id


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ConfigError, WorkersError])
@pytest.mark.parametrize("outlived", [False, True])
def test_a_plan_goes_with_the_jobs_that_need_it(release, tmp_path, monkeypatch, error, outlived):
    def stopped(engine, work):
        if outlived:
            work.alone.set()
        raise error

    monkeypatch.setattr(launch, "check", lambda engine, folder: False)
    monkeypatch.setattr(launch, "run", stopped)
    given = config(release, tmp_path, workers_on="slurm:2", wait=True)
    with pytest.raises(error):
        pipeline.run(given)
    assert any(name.startswith(".plan-") for name in names(given.folder)) is outlived


def test_what_workers_have_computed_is_told_as_theirs(release, tmp_path, forks, capsys):
    pipeline.run(config(release, tmp_path, workers_on="local:2"))
    said = capsys.readouterr().err
    assert (
        re.search(r"shards computed by workers +\d", said) and "locally" not in said and "shards computed  " not in said
    )


@pytest.fixture
def dead_with_gpus(monkeypatch):
    """Let workers have GPUs, this machine none, and let all of them end at once; return the work of each."""
    given = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(launch, "check", lambda engine, folder: True)
    monkeypatch.setattr(launch, "run", lambda engine, work: given.append(work) or True)
    return given


def test_what_workers_with_gpus_leave_a_cpu_computes_in_their_precision(release, tmp_path, dead_with_gpus, capsys):
    """The id is that of the precision which GPUs take by themselves, and workers are told of it."""
    many = pipeline.run(config(release, tmp_path / "many", workers_on="ray", device="auto"))
    said = capsys.readouterr().err
    alone = pipeline.run(config(release, tmp_path / "alone", precision="fp16"))
    assert melcache.open(many).id == melcache.open(alone).id
    [work] = dead_with_gpus
    assert [given_by(list(words)).precision for words in (work.words, work.finish)] == ["fp16"] * 2
    assert "workers have GPUs: planned with --precision fp16" in said
    assert re.search(r"workers have left (\d+) of \1 shards, which this process computes on its CPU in fp16", said)


@pytest.mark.parametrize("given", [{"precision": "fp32", "device": "auto"}, {"device": "cpu"}])
def test_a_precision_or_a_device_that_is_given_is_that_of_workers_with_gpus(release, tmp_path, dead_with_gpus, given):
    begun = beginning.begin(config(release, tmp_path, workers_on="ray", **given))
    assert begun.config == config(release, tmp_path, workers_on="ray", **given)


def test_what_a_gpu_takes_by_itself_is_named_for_workers_that_have_one(release, tmp_path):
    cuda = SimpleNamespace(type="cuda")
    named = config(release, tmp_path, text="a model").for_gpus
    assert named.precision == Compute.choose(cuda, "auto").precision == "fp16"
    assert named.text_tokens == Compute.choose(cuda, "auto").tokens == 16_384
    assert config(release, tmp_path, text="a model", text_tokens=7).for_gpus.text_tokens == 7
    assert config(release, tmp_path).for_gpus.text_tokens is None, "BERT has no such option"


def test_a_plan_has_no_workers(release, tmp_path):
    with pytest.raises(ConfigError, match="a plan computes nothing"):
        config(release, tmp_path, workers_on="local:2", plan=True)
