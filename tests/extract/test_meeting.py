"""Extraction by machines that share no folder: `--remote URL --push` on each divides the tasks."""

import os
import shutil
import time
from dataclasses import replace
from functools import partial

import pytest

import melcache
from cache import manifests
from cache.meeting.alone import Alone
from cache.remotes.folder import Folder
from cache.remotes.meeting_names import MEETING
from cache.remotes.object_store import Memory
from cache.sharing import board
from cache.store import plans
from extract import pipeline
from extract.computing import by_workers, missing_shards, tasks
from extract.planning.shards import RANGED, missing
from extract.preparation import prepare
from extract.remote import Shared
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from torture.processes import child

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
PICTURES = ("red.png", "green.png", "blue.png")
COUNT = 6
config = partial(extract_config, candidates=2, shard_rows=2, push=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Rows that repeat texts and pictures of rows before them, so that ranges copy from each other."""
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, {name: (33 + 7 * place, 40) for place, name in enumerate(PICTURES)})
    entities = [entity_record(i, f"Place {i % 4}", f"text {i % 3}", PICTURES[i % 3]) for i in range(COUNT)]
    said = [(f"We saw Place {i % 4} on day {i}", f"Place {i % 4}", PICTURES[i * 5 % 3]) for i in range(COUNT)]
    mentions = [mention_record(i, *one, gold=f"e{i % 4}", caption=f"c{i}") for i, one in enumerate(said)]
    return write_release(folder, mentions, entities)


@pytest.fixture(scope="module")
def alone(release, tmp_path_factory):
    """The id of the cache that one process makes without a remote, and its tasks."""
    found = config(release, tmp_path_factory.mktemp("alone"), push=False)
    names = set(tasks.groups(prepare(found).plan, RANGED))
    return melcache.open(pipeline.run(found)).id, names


def work(release, shards, url, log):
    """Extract in this process; a line of `log` for each task that is computed."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    real = missing_shards.Sharing._finish

    def finish(sharing, task, lacking):
        if lacking:
            os.write(descriptor, f"{task.name}\n".encode())
            time.sleep(0.02)
        real(sharing, task, lacking)

    missing_shards.Sharing._finish = finish
    board.POLL = 0.02
    missing_shards.POLL = 0.02
    pipeline.run(config(release, shards, remote=str(url)))


def test_machines_make_each_task_once_and_the_cache_of_one(release, alone, tmp_path):
    identity, names = alone
    logs = {letter: tmp_path / f"log-{letter}" for letter in "ab"}
    machines = [partial(work, release, tmp_path / letter, tmp_path / "remote", log) for letter, log in logs.items()]
    pids = [child(machine) for machine in machines]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    made = [log.read_text().splitlines() for log in logs.values()]
    assert sorted(made[0] + made[1]) == sorted(names) and all(made)
    for folder in (tmp_path / "a/world", tmp_path / "b/world", tmp_path / "remote"):
        assert melcache.open(folder).id == identity
        assert not [path for path in folder.iterdir() if path.name.startswith(".") or path.name == MEETING]


def test_groups_are_all_shards_of_tasks_by_the_names_of_their_claims(release, tmp_path):
    plan = prepare(config(release, tmp_path, push=False)).plan
    groups = {name: [shard.file for shard in shards] for name, shards in tasks.groups(plan, RANGED).items()}
    for task in tasks.split(missing(plan, lambda shard: shard.index != 1)):
        assert {shard.file for shard in task.missing} <= set(groups.get(task.name, ()))
    whole = [shard.file for item in missing(plan, lambda shard: False) for shard in item.missing]
    assert sorted(file for files in groups.values() for file in files) == sorted(whole)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"push": False}, ""),
        ({"remote": "memory://team/world"}, "memory://team/world is no place for machines to meet"),
        (
            {"signers": "signers", "require_signed": True},
            "--signers: what other machines finish meanwhile",
        ),
    ],
)
def test_without_push_or_conditions_and_with_signers_a_machine_is_alone(tmp_path, capsys, monkeypatch, changes, line):
    (tmp_path / "signers").write_text("me@here ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVe\n")
    monkeypatch.setattr("cache.sharing.signing.check_signers", lambda path: None)
    given = {"remote": str(tmp_path / "team")} | changes
    if "signers" in given:
        given["signers"] = tmp_path / given["signers"]
    shared = Shared(config(tmp_path, tmp_path, **given))
    capsys.readouterr()
    assert type(shared.meeting(dict, None)) is Alone
    said = capsys.readouterr().err
    assert said.startswith(line) and bool(said) is bool(line)
    assert Memory.conditional is False


def test_workers_meet_and_leave_the_publication_to_their_command(release, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(by_workers.launch, "run", lambda engine, task: told.append(task) or True)
    monkeypatch.setenv("MELCACHE_REMOTE", f"{tmp_path}/{{name}}")
    for changes in ({"signers": tmp_path / "signers"}, {}):
        given = config(release, tmp_path, remote=None, workers_on="local:2", **changes)
        given.folder.mkdir(exist_ok=True)
        job = prepare(config(release, tmp_path, push=False))
        assert by_workers.work(given, job.handed(given), missing(job.plan, lambda shard: False), job.encoders) == 0
    signed, meeting = (dict(zip(task.words, [*task.words[1:], ""], strict=True)) for task in told)
    assert "--push" not in signed and signed["--remote"] == ""
    assert "--push" in meeting and meeting["--remote"] == f"{tmp_path}/world" and "--by-plan" in meeting


def test_a_worker_by_plan_neither_asks_what_is_published_nor_publishes(release, alone, tmp_path, monkeypatch, capsys):
    given = config(release, tmp_path, remote=str(tmp_path / "remote"))
    given.folder.mkdir()
    job = prepare(given)
    digest = plans.digest_of(plans.write(given.folder, job.handed(given)()))
    capsys.readouterr()
    monkeypatch.setattr(Shared, "push", lambda self: pytest.fail("it publishes"))
    assert melcache.open(pipeline.run(replace(given, by_plan=digest))).id == alone[0]
    said = capsys.readouterr().err
    assert "nothing is published" not in said and f"at {tmp_path / 'remote'}: 0 of" in said
    assert len(os.listdir(tmp_path / "remote" / MEETING)) == len(alone[1])


def test_a_worker_by_plan_sends_nothing_that_lies_there(release, alone, tmp_path, monkeypatch):
    """Such as what a machine has sent that died, or a cache of fewer parts."""
    pipeline.run(config(release, tmp_path / "a", remote=str(tmp_path / "remote")))
    (tmp_path / "remote" / manifests.NAME).unlink()
    shutil.rmtree(tmp_path / "remote" / manifests.COPIES)
    given = config(release, tmp_path / "b", remote=str(tmp_path / "remote"))
    given.folder.mkdir(parents=True)
    digest = plans.digest_of(plans.write(given.folder, prepare(given).handed(given)()))
    monkeypatch.setattr(Folder, "create", lambda self, name, source, **more: pytest.fail(f"{name} is sent"))
    assert melcache.open(pipeline.run(replace(given, by_plan=digest))).id == alone[0]
    assert len(os.listdir(tmp_path / "remote" / MEETING)) == len(alone[1]), "there are receipts"
