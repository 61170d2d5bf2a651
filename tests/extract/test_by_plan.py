"""Workers that go by the plan of another process: nothing is planned twice, and no other plan is gone by."""

import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import safetensors.numpy

import melcache
from cache.checks import gc
from cache.store import claims, plans, temporary_names
from cache.store.temporary_names import TemporaryName
from common.errors import CacheError, ConfigError, MelcacheError
from common.paths import names
from extract import beginning, cli, datasets, pipeline
from extract.computing import by_workers, missing_shards
from extract.plan_files import reading
from extract.planning import candidate_lists, rows
from extract.preparation import prepare
from tests.extract.test_launching import Forked, given_by
from tests.worlds import entity_record, extract_config, mention_record, write_files, write_pictures, write_release
from torture.processes import child, doomed, until
from workers import local

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
config = partial(extract_config, candidates=2, shard_rows=2)
PICTURES = {"red.png": (40, 30), "green.png": (33, 50)}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Rows that repeat texts and pictures, without and with broken ones, nil, unlabeled, not found, half an emoji."""
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, PICTURES)
    (folder / "images/broken.png").write_bytes(b"no picture")
    shown = [*PICTURES, "broken.png", "absent.png", None]
    entities = [
        entity_record(i, f"Place {i % 4}", f"text {i % 3}", shown[i % 5], description=f"d{i}") for i in range(5)
    ]
    mentions = [mention_record(i, f"We saw Place {i % 4}", f"Place {i % 4}", shown[i % 5]) for i in range(7)]
    mentions[1] |= {"gold": None}
    mentions[2] |= {"mention": "elsewhere \ud83d", "start": -1, "end": -1}
    del mentions[3]["gold"]
    return write_release(folder, mentions, entities)


@pytest.fixture(scope="module")
def alone(release, tmp_path_factory):
    """The id of the cache that one process makes."""
    return melcache.open(pipeline.run(config(release, tmp_path_factory.mktemp("alone")))).id


def planned(given):
    """Write the plan of a config into its folder and return a worker's config."""
    job = prepare(given)
    given.folder.mkdir(parents=True, exist_ok=True)
    return replace(given, by_plan=plans.digest_of(plans.write(given.folder, job.handed(given)())))


def file_of(worker):
    [name] = [name for name in os.listdir(worker.folder) if name.startswith(plans.PREFIX)]
    return worker.folder / name


def rewritten(worker, change):
    """Write the plan of a worker anew with other arrays, under the digest that these have; return its config."""
    path = file_of(worker)
    arrays = safetensors.numpy.load(path.read_bytes())
    path.unlink()
    change(arrays)
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return replace(worker, by_plan=plans.digest_of(plans.write(worker.folder, data)))


@pytest.fixture
def nothing_planned(monkeypatch):
    """Let whatever takes long in planning fail."""

    def fail(*given, **more):
        raise AssertionError("planned again")

    monkeypatch.setattr(datasets, "load", fail)
    monkeypatch.setattr(rows.Rows, "hashed", fail)
    monkeypatch.setattr(candidate_lists, "make", fail)
    monkeypatch.setattr("extract.planning.shard_keys.shard_key", fail)
    monkeypatch.setattr("extract.encoders.text.bert.Bert.count", fail)


def test_a_worker_makes_the_cache_of_one_and_plans_nothing(release, alone, tmp_path, request):
    worker = planned(config(release, tmp_path))
    request.getfixturevalue("nothing_planned")
    pipeline.run(worker)
    assert melcache.open(worker.folder).id == alone


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"heads": ("ghmfc", "dwe")},
        {"heads": ("dwe",), "faces": "faces.json"},
        {"limit": 2},
        {"descriptions": "d.tsv"},
    ],
    ids=["plain", "tokens", "faces", "limit", "descriptions"],
)
def test_a_plan_that_is_read_says_all_that_was_planned(release, tmp_path, more):
    """Encoded again it is the same bytes; a worker's shards, and what it says of the dataset, are equal."""
    write_files(release, {"faces.json": {"red.png": [face()]}, "d.tsv": "e0\tlong text\n"})
    more = {name: release / value if name in ("faces", "descriptions") else value for name, value in more.items()}
    given = config(release, tmp_path, **more)
    worker = planned(given)
    ours, theirs = prepare(given), prepare(worker)
    assert hashlib.sha256(theirs.handed(given)()).hexdigest() == worker.by_plan
    assert (theirs.about, theirs.release.counts) == (ours.about, ours.release.counts)
    for table in ("entity", "mention", "pair"):
        assert [*theirs.plan.shards(table)] == [*ours.plan.shards(table)]
    assert [*theirs.plan.content()] == [*ours.plan.content()]


def face():
    return {"age": 30, "dominant_emotion": "happy", "dominant_gender": "Woman", "dominant_race": "asian"}


def test_another_machine_may_have_the_release_elsewhere(release, alone, tmp_path):
    worker = planned(config(release, tmp_path / "shards"))
    moved = tmp_path / "moved"
    moved.symlink_to(release)
    pipeline.run(replace(worker, data=moved))
    assert melcache.open(worker.folder).id == alone


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"shard_rows": 3}, "other options than its plan: expected --shard-rows 2, found 3"),
        ({"candidates": 1}, "expected --candidates 2, found 1"),
        ({"heads": ("ghmfc",)}, r"expected --for \[\], found \['ghmfc'\]"),
        ({"max_missing": 0.5}, "expected --max-missing 1.0, found 0.5"),
        ({"precision": "bf16"}, "entity.text otherwise than planned: expected encoder.compute 'fp32', found 'bf16'"),
        (
            {"image_weights": "random-full"},
            "entity.image otherwise than planned: expected encoder.encoder 'torchvision ResNet, tiny'",
        ),
        ({"text_weights": "random-full"}, "entity.text otherwise than planned: expected "),
    ],
)
def test_a_worker_with_other_options_or_weights_is_refused(release, tmp_path, more, told):
    worker = planned(config(release, tmp_path))
    with pytest.raises(ConfigError, match=told):
        pipeline.run(replace(worker, **more))
    assert [*worker.folder.iterdir()] == [file_of(worker)]


def test_a_worker_with_other_code_is_refused(release, tmp_path, monkeypatch):
    worker = planned(config(release, tmp_path))
    assert reading.code.__wrapped__() == reading.code()
    monkeypatch.setattr(reading, "CODE", ("cache", "extract"))
    monkeypatch.setattr(reading, "code", reading.code.__wrapped__)
    with pytest.raises(ConfigError, match=r"other code than .* expected [0-9a-f]{16}, found [0-9a-f]{16}. Install one"):
        beginning.begin(worker)


def test_a_folder_that_is_not_shared_is_told(release, tmp_path):
    worker = planned(config(release, tmp_path / "there"))
    (tmp_path / "here").mkdir()
    with pytest.raises(CacheError, match="does not see the folder of the process that planned"):
        beginning.begin(replace(worker, shards=tmp_path / "here"))


def test_a_worker_that_begins_late_ends_in_order(release, tmp_path, monkeypatch, capsys):
    """The cache has been finished since; one that was there before says nothing of this plan."""
    worker = planned(config(release, tmp_path))
    manifest, path = worker.folder / "manifest.json", file_of(worker)
    asked = replace(worker, by_plan=plans.asked_by(path))
    manifest.touch()
    path.unlink()
    monkeypatch.setitem(sys.modules, "torch", None)
    cli.extract(asked)
    assert re.search(
        r"world/: others have finished the cache of plan \w+; nothing is left to do\n$", capsys.readouterr().err
    )
    os.utime(manifest, ns=(1, 1))
    for late in (asked, worker):
        with pytest.raises(CacheError, match="no plan"):
            cli.extract(late)
        manifest.touch()


def test_a_plan_that_is_removed_while_it_is_looked_for_is_none(release, tmp_path, monkeypatch):
    worker = planned(config(release, tmp_path))
    found = [file_of(worker)]
    found[0].unlink()
    monkeypatch.setattr(plans, "_in", lambda folder: found)
    with pytest.raises(CacheError, match="no plan"):
        beginning.begin(worker)


def flipped(data):
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-1], lambda data: b"", lambda data: data + b"x"])
def test_a_damaged_plan_is_not_gone_by(release, tmp_path, change):
    worker = planned(config(release, tmp_path))
    path = file_of(worker)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CacheError, match=r"is damaged: its bytes have another sha256 than its name says"):
        beginning.begin(worker)


@pytest.mark.parametrize("digest", ["", "ab", "g" * 64, "A" * 64, "../" + "a" * 61])
def test_what_is_no_digest_is_refused(release, tmp_path, digest):
    with pytest.raises(ConfigError, match="expected the sha256 of a plan, 64 hex digits"):
        config(release, tmp_path, by_plan=digest)


def put(name, at, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][at] = value

    return change


def document(**more):
    def change(arrays):
        found = json.loads(arrays["document"].tobytes())
        for path, value in more.items():
            place = found
            *above, last = path.split("__")
            for name in above:
                place = place[name]
            place[last] = value
        arrays["document"] = np.frombuffer(json.dumps(found).encode(), np.uint8)

    return change


HOSTILE = {
    "an entity that is not there": put("lists.candidates", (0, 0), 5),
    "a gold that is not there": put("mention.gold", 0, 5),
    "a gold before all": put("mention.gold", 0, -3),
    "a place beyond the list": put("lists.gold", 0, 2),
    "a picture that is not there": put("entity.image", 0, 1 << 20),
    "a reason that is none": put("image.status", 0, 200),
    "a split that is none": put("mention.splits", 0, 255),
    "a place before the text": put("mention.place", (0, 0), -2),
    "texts that end before they begin": put("entity.text.ends", 0, -1),
    "texts that end beyond": put("entity.text.ends", -1, 1 << 40),
    "no UTF-8": put("entity.text.utf8", 0, 255),
    "ranges with a gap": put("entity.borders", (0, 1), 1),
    "ranges that are empty": lambda arrays: arrays.update({"entity.borders": np.zeros((0, 2), np.int64)}),
    "ranges of too many rows": put("mention.borders", (-1, 1), 1 << 40),
    "generations of other rows": put("generations", (0, 0), 4),
    "no generation": lambda arrays: arrays.update(generations=np.zeros((0, 2), np.int64)),
    "another type": lambda arrays: arrays.update({"mention.gold": arrays["mention.gold"].astype(np.float32)}),
    "another shape": lambda arrays: arrays.update({"lists.lexical": arrays["lists.lexical"][:, :1]}),
    "fewer mentions": lambda arrays: arrays.update({"mention.splits": arrays["mention.splits"][1:]}),
    "a key too few": lambda arrays: arrays.update({"key.entity.text": arrays["key.entity.text"][1:]}),
    "an array too few": lambda arrays: arrays.pop("lists.lexical"),
    "no document": lambda arrays: arrays.pop("document"),
    "no JSON": lambda arrays: arrays.update(document=np.frombuffer(b"{", np.uint8)),
    "a list": lambda arrays: arrays.update(document=np.frombuffer(b"[]", np.uint8)),
    "deep JSON": lambda arrays: arrays.update(document=np.frombuffer(b'{"a":' + b"[" * 10**6, np.uint8)),
    "another format": document(format="melcache plan 0"),
    "a field more": document(more=1),
    "a count that is none": document(release__counts={"a": "b"}),
    "a warning that is none": document(release__warnings=[1]),
    "a part that is none": document(parts={"entity.nothing": {}}),
    "a part without a recipe": document(parts__entity_text={}),
    "faces of too few": document(faces=[]),
    "a face that is none": document(faces=[[[1, 2, 3, 4]]]),
    "a number in place of a text": document(origin=1),
    "a number in place of a truth": document(listing=1),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_plan_of_a_stranger_is_refused_in_a_line(strangers, what):
    with pytest.raises(MelcacheError, match=r"the plan [0-9a-f]{16} in ") as caught:
        beginning.begin(rewritten(strangers, HOSTILE[what]))
    assert "\n" not in str(caught.value)


@pytest.fixture
def strangers(release, tmp_path):
    return planned(config(release, tmp_path))


def test_what_is_no_safetensors_is_refused(release, tmp_path):
    worker = planned(config(release, tmp_path))
    for data in (b"", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}"):
        other = replace(worker, by_plan=plans.digest_of(plans.write(worker.folder, data)))
        with pytest.raises(CacheError, match="is not one that melcache writes"):
            beginning.begin(other)


@pytest.fixture
def forks(monkeypatch):
    """Let workers be forks; return their configs, of those that have begun."""
    started = []

    def start(words, environment, log):
        started.append(given_by(words[3:]))
        return Forked(lambda: pipeline.run(started[-1]))

    monkeypatch.setattr(local, "start", start)
    monkeypatch.setattr(local, "LOOK", 0.01)
    return started


def hidden(folder):
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_workers_are_given_the_plan_and_none_is_left(release, alone, tmp_path, forks, capsys):
    folder = pipeline.run(config(release, tmp_path, workers_on="local:2"))
    assert "share" not in capsys.readouterr().err
    assert melcache.open(folder).id == alone and hidden(folder) == []
    assert len({worker.by_plan for worker in forks}) == 1 and plans.ASKED.fullmatch(forks[0].by_plan)


def test_too_few_tasks_for_so_many_workers_are_told(release, tmp_path, forks, monkeypatch, capsys):
    """Three ranges of entities and four of mentions are two tasks each, as many of pairs are one."""
    pipeline.run(config(release, tmp_path / "least", workers_on="local:10"))
    assert "share 18 tasks" not in capsys.readouterr().err, "ranges are as small as it pays"
    monkeypatch.setattr(by_workers, "LEAST", 1)
    pipeline.run(config(release, tmp_path, workers_on="local:10"))
    said = capsys.readouterr().err
    assert "10 workers share 18 tasks, so that many wait for the last ones" in said
    assert re.search(r"A new cache, of another id, with --shard-rows 1 has more$", said, re.MULTILINE)


def test_lists_by_vectors_are_made_once_between_two_plans(release, tmp_path, forks, monkeypatch):
    """Workers by the first plan end before pairs, those by the second list nothing; the cache is that of one."""
    alone = melcache.open(pipeline.run(config(release, tmp_path / "alone", candidates_from=("text", "names")))).id
    made, listed = tmp_path / "made", candidate_lists.by_sources
    note = os.open(made, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def by_sources(*given):
        os.write(note, f"{os.getpid()}\n".encode())
        return listed(*given)

    monkeypatch.setattr(candidate_lists, "by_sources", by_sources)
    given = config(release, tmp_path, candidates_from=("text", "names"), workers_on="local:2")
    assert melcache.open(pipeline.run(given)).id == alone
    assert made.read_text().split() == [str(os.getpid())]
    assert [len({worker.by_plan for worker in phase}) for phase in (forks[:2], forks[2:])] == [1, 1]
    assert len({worker.by_plan for worker in forks}) == 2 and hidden(given.folder) == []


def test_two_launchers_at_once_make_one_cache(release, alone, tmp_path, forks):
    """Neither takes from the other's workers what they go by."""
    given = config(release, tmp_path, workers_on="local:2")
    pids = [child(lambda: pipeline.run(given)) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert melcache.open(given.folder).id == alone and hidden(given.folder) == []


def test_workers_of_a_killed_launcher_finish_the_cache_and_clear_its_plan(release, alone, tmp_path, forks, monkeypatch):
    """The workers are not its children's: they wait until it is dead."""
    given, gate = config(release, tmp_path, workers_on="local:1"), tmp_path / "gate"
    finish = missing_shards.Work._finish

    def waiting(work, rows):
        until(gate.exists, "the launcher is dead")
        finish(work, rows)

    monkeypatch.setattr(missing_shards.Work, "_finish", waiting)
    with doomed(lambda: pipeline.run(given)):
        until(lambda: any(name.startswith(claims.PREFIX) for name in names(given.folder)), "a worker has a claim")
    assert [name for name in hidden(given.folder) if name.startswith(plans.PREFIX)]
    gate.touch()
    until(lambda: (given.folder / "manifest.json").exists() and not hidden(given.folder), "the cache is finished")
    assert melcache.open(given.folder).id == alone


def of_the_dead(folder, host=None):
    """Write a plan as a process that has ended did; on another machine if it is named."""
    path = plans.write(folder, b"x")
    name = replace(TemporaryName.new(), pid=2**30)
    name = replace(name, home=replace(name.home, host=host, boot="0123456789ab")) if host else name
    return path.rename(folder / f"{path.name[:71]}{str(name).removeprefix(temporary_names.PREFIX)}")


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_the_next_extraction_clears_plans_of_the_dead_and_keeps_those_of_the_living(release, tmp_path, host):
    given = config(release, tmp_path)
    given.folder.mkdir()
    dead = of_the_dead(given.folder, host)
    os.utime(dead, (1e11, 1e11))  # by a clock that is ahead
    living = plans.write(given.folder, b"y")
    pipeline.run(given)
    assert not dead.exists() and living.exists()


def test_gc_removes_plans_of_the_dead_that_are_older_than_the_manifest(tmp_path, toy_cache):
    folder = tmp_path / "toy"
    shutil.copytree(toy_cache, folder)
    before, after, living = of_the_dead(folder), of_the_dead(folder), plans.write(folder, b"y")
    os.utime(before, (1, 1))
    found = {file.file: file.kept for file in gc.collect(folder).files}
    assert found == {before.name: False, after.name: True}
    assert living.name not in {file.file for file in gc.collect(folder, unfinished=True).files}
    gc.collect(folder, delete=True)
    assert not before.exists() and after.exists() and living.exists()
