"""Fetch or compute: what a teammate has computed is fetched and trusted only if it is what would be computed."""

import json
import re
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import melcache
from cache import manifests, store
from cache.checks import gc
from cache.checks.verify import verify
from cache.remotes import folder as folders
from cache.sharing import push
from cache.store import resumable_file
from common.errors import CacheError, ConfigError
from extract import pipeline
from extract.cli import app
from extract.encoders.detector import Objects
from extract.encoders.joint.clip import Clip
from extract.encoders.resnet import ResNet
from extract.encoders.text.bert import Bert
from extract.remote import FAILURES, Shared
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from torture.strangers import odd_remotes

ROOT = Path(__file__).parents[2]
ENTITIES = [
    ("Paris", "in France", "red.png"),
    ("Lyon", "", "blue.png"),
    ("Rome", "in Italy", None),
    ("Oslo", "", "red.png"),
]
MENTIONS = [("Paris at night", "Paris", "red.png"), ("Old Lyon", "Lyon", None), ("A walk in Rome", "Rome", "green.png")]
PARTS = 12  # of a cache without any on demand
pytestmark = pytest.mark.usefixtures("without_fsync", "toys_built_once")
COMPUTED = ("bert", "clip texts", "clip pictures", "resnet pictures", "detector")


def write_world(folder, mentions=MENTIONS):
    write_pictures(folder, {"red.png": (40, 30), "blue.png": (64, 48), "green.png": (33, 50)})
    records = [mention_record(i, *mention) for i, mention in enumerate(mentions)]
    return write_release(folder, records, [entity_record(i, *entity) for i, entity in enumerate(ENTITIES)])


config = partial(extract_config, candidates=2, shard_rows=2)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def team(release, tmp_path_factory):
    """A cache and the remote that it was pushed to; tests only read both."""
    place = tmp_path_factory.mktemp("team")
    folder = pipeline.run(config(release, place / "mine"))
    push.push(folder, str(place / "remote"))
    return melcache.open(folder), place / "remote"


@pytest.fixture
def remote(team, tmp_path):
    """The remote in a copy that a test may damage."""
    return shutil.copytree(team[1], tmp_path / "remote")


def encoded(work):
    e = work.encoders
    counts = (
        e.text.counts["texts"],
        e.joint.counts["texts"],
        e.joint.counts["pictures"],
        e.image.counts["pictures"],
        e.objects.counts["pictures"],
    )
    return dict(zip(COMPUTED, counts, strict=True)) | {"decoded": work.pictures.decoded}


def said(capsys, begin):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(begin)]


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def is_sound(folder):
    return not [found for found in verify(folder) if found.problem] and not list(folder.glob(".*"))


# --- fetch


def test_an_empty_folder_fetches_everything_and_encodes_nothing(release, team, tmp_path, watched, capsys):
    before = files(team[1])
    reader = melcache.open(pipeline.run(config(release, tmp_path, remote=str(team[1]))))
    assert reader.id == team[0].id and is_sound(reader.path)
    assert set(encoded(watched[0]).values()) == {0}
    shards = team[0].manifest.shards
    total, draft = sum(shard.bytes for shard in shards), watched[0].draft
    assert (draft.made, draft.kept, draft.fetched) == (0, 0, len(shards))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"shards: none present locally, {len(shards)} in {PARTS} parts fetched from {team[1]} (")
    assert f"({total / 1000:.1f} kB, saving " in line and line.endswith(" by the rates recorded there), none computed")
    assert files(team[1]) == before  # read only
    assert reader.manifest.provenance.made == team[0].manifest.provenance.made


def test_another_detector_recomputes_only_what_differs(release, team, tmp_path, watched):
    other = {"objects": 2}
    alone = melcache.open(pipeline.run(config(release, tmp_path / "alone", **other)))
    reader = melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(team[1]), **other)))
    assert reader.id == alone.id != team[0].id
    kinds = {kind: count for kind, count in encoded(watched[1]).items() if count}
    assert kinds == {"detector": 3, "decoded": 3}
    computed = watched[1].draft.shards("made")
    assert set(computed) == {"entity.objects", "mention.objects", "pair.alignment"}


def test_what_is_here_is_not_fetched_again(release, team, remote, tmp_path, watched):
    folder = shutil.copytree(team[0].path, tmp_path / "world")
    lost = sorted(folder.glob("*.h5"))[::3]
    for path in lost:
        path.unlink()
    (remote / lost[0].name).unlink()  # nor is it there
    reader = melcache.open(pipeline.run(config(release, tmp_path, remote=str(remote))))
    draft = watched[0].draft
    assert reader.id == team[0].id and (draft.made, draft.fetched) == (1, len(lost) - 1)
    assert draft.kept == len(reader.manifest.shards) - len(lost)


def test_an_older_cache_there_is_known_by_its_copy(release, team, remote, tmp_path, watched):
    other = pipeline.run(config(write_world(tmp_path / "r", MENTIONS[:2]), tmp_path))
    push.push(other, str(remote), replace=True)
    assert melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(remote)))).id == team[0].id
    assert watched[1].draft.made == 0


# --- what a remote may do


def flip(remote, name):
    path = remote / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(remote, name):
    path = remote / name
    path.write_bytes(path.read_bytes()[:-9])


def gone(remote, name):
    (remote / name).unlink()


@pytest.mark.parametrize(
    ("damage", "warning"),
    [
        (flip, "1 shards could not be fetched and are computed here: .*damaged there.* --check"),
        (cut, "size.*--check"),
        (gone, ""),
    ],
)
def test_a_shard_damaged_there_costs_one_warning_and_is_computed(
    release, team, remote, tmp_path, watched, capsys, damage, warning
):
    damage(remote, next(s.file for s in team[0].manifest.shards if s.part == "mention.text"))
    reader = melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(remote))))
    assert reader.id == team[0].id and is_sound(reader.path)
    assert watched[0].draft.shards("made") == {"mention.text": 1}
    warnings = [line for line in said(capsys, "warning") if "random weights" not in line]
    assert len(warnings) == bool(warning) and all(re.search(warning, line) for line in warnings)


BAD = (  # that fits its manifest: part, column, value, and what is said of it
    ("entity.ids", "image_status", 9, r"image_status of entity 'e1' \(row 1\) is corrupt, but its picture is ok"),
    ("mention.ids", "gold", 3, "gold differs from the release"),
    ("pair.candidates", "candidates", 999, "candidates differs from the release"),
    ("mention.objects", "labels", 1 << 20, "labels holds .* expected 0 to 65536"),
    ("entity.joint", "present", 7, "present holds what is neither true nor false"),
    ("pair.alignment", "text_to_text", 5, "text_to_text holds"),
)


def test_values_that_cannot_be_are_computed_be_they_there_or_taken_before(
    release, team, remote, tmp_path, watched, capsys
):
    told = json.loads((remote / "manifest.json").read_text())
    for part, column, value, _ in BAD:
        odd_remotes.forged(part, column, value)(remote, told)
    (remote / "manifest.json").write_bytes(manifests.written(manifests.seal(told)))
    shutil.rmtree(remote / "manifests")
    shutil.copytree(remote, tmp_path / "earlier/world")  # as an earlier version has taken it
    for shards, url, warning in (
        (tmp_path / "b", str(remote), rf"warning: {len(BAD)} shards could not be fetched and are computed here: \S+: "),
        (
            tmp_path / "earlier",
            "",
            rf"warning: {len(BAD)} shards in \S+ hold impossible values .* recomputed: \S+: ",
        ),
    ):
        reader = melcache.open(pipeline.run(config(release, shards, remote=url)))
        assert reader.id == team[0].id and is_sound(reader.path)
        draft = watched[-1].draft
        assert draft.shards("made") == {part: 1 for part, *_ in BAD}
        files = {shard["part"]: shard["file"] for shard in reversed(told["shards"])}
        for part, _, _, reason in BAD:
            assert re.match(reason, draft.wrong[files[part]]), draft.wrong[files[part]]
        assert re.search(warning, capsys.readouterr().err)


@pytest.mark.parametrize("after", [0, 5])
def test_a_remote_that_fails_in_the_middle_costs_one_warning(
    release, team, tmp_path, watched, monkeypatch, capsys, after
):
    monkeypatch.setattr(Shared, "order", lambda self, release: None)  # reads, too
    inner, calls = folders.Folder.block, []

    def block(self, *arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise CacheError("cannot read team: no connection")
        return inner(self, *arguments)

    monkeypatch.setattr(folders.Folder, "block", block)
    monkeypatch.setattr(folders.Folder, "threads", 1)
    reader = melcache.open(pipeline.run(config(release, tmp_path, remote=str(team[1]))))
    assert reader.id == team[0].id and is_sound(reader.path)
    assert watched[0].draft.fetched == after and watched[0].draft.made > 0
    assert len(calls) == after + FAILURES  # then no more are asked for
    warnings = [line for line in said(capsys, "warning") if "random weights" not in line]
    assert len(warnings) == 1 and warnings[0].endswith("cannot read team: no connection")


def test_a_remote_that_does_not_answer_costs_a_warning(release, tmp_path, team, monkeypatch, capsys):
    def state(self):
        raise CacheError("cannot read team: no connection")

    monkeypatch.setattr(folders.Folder, "state", state)
    assert melcache.open(pipeline.run(config(release, tmp_path, remote=str(team[1])))).id == team[0].id
    assert "cannot read team: no connection. What it does not deliver is computed here" in capsys.readouterr().err


def test_a_disk_here_that_fails_stops_the_run(release, tmp_path, team, monkeypatch):
    def write(self, block):
        raise resumable_file.WriteError("cannot write: No space left on device")

    monkeypatch.setattr(resumable_file.Growing, "write", write)
    with pytest.raises(CacheError, match="No space left"):
        pipeline.run(config(release, tmp_path, remote=str(team[1])))


def test_a_disk_that_is_too_small_for_the_fetch_stops_before_it(release, tmp_path, team, monkeypatch):
    monkeypatch.setattr("cache.sharing.download.free", lambda folder: 1000)
    with pytest.raises(CacheError, match=r"has 1\.0 kB free, fetching from .* needs .*Make room"):
        pipeline.run(config(release, tmp_path, remote=str(team[1])))
    assert not (tmp_path / "world").exists()


def test_gc_waits_for_an_extraction_and_an_extraction_for_a_pull(release, tmp_path, team, monkeypatch):
    inner, taken = Shared.take, []

    def take(self, todo, draft):
        taken.append(draft)
        with pytest.raises(CacheError, match="another process is writing to"):
            gc.collect(draft.folder, delete=True, unfinished=True)
        with store.together(draft.folder):  # as another extraction would
            return inner(self, todo, draft)

    monkeypatch.setattr(Shared, "take", take)
    folder = pipeline.run(config(release, tmp_path, remote=str(team[1])))
    assert taken and is_sound(folder)
    with store.alone(folder), pytest.raises(CacheError, match="another process is writing to"):
        pipeline.run(config(release, tmp_path, remote=str(team[1])))


def test_a_fetch_that_is_cut_off_is_continued_inside_the_file(release, tmp_path, team, monkeypatch):
    monkeypatch.setattr(Shared, "order", lambda self, release: None)  # reads, too
    inner, calls, taken = folders.Folder.block, [], []
    monkeypatch.setattr(folders.Folder, "threads", 1)
    monkeypatch.setattr(folders.Folder, "block_size", 500)

    def block(self, *arguments):
        calls.append(arguments)
        if len(calls) == 40:
            raise KeyboardInterrupt
        found = inner(self, *arguments)
        taken.append(len(found))
        return found

    monkeypatch.setattr(folders.Folder, "block", block)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config(release, tmp_path, remote=str(team[1])))
    assert list((tmp_path / "world").glob(".partial-*"))
    reader = melcache.open(pipeline.run(config(release, tmp_path, remote=str(team[1]))))
    assert reader.id == team[0].id and is_sound(reader.path)
    assert sum(taken) == sum(shard.bytes for shard in reader.manifest.shards)  # not a byte twice


@pytest.mark.parametrize("change", ["key", "columns"])
def test_a_name_alone_is_not_trusted(release, team, remote, tmp_path, watched, change):
    told = json.loads((remote / "manifest.json").read_text())
    shard = next(shard for shard in told["shards"] if shard["part"] == "mention.text")
    if change == "key":
        shard["key"] = shard["key"][:12] + "0" * 52
    else:  # of another recipe, and so of another layout
        part = told["parts"]["mention.text"]
        part["recipe"]["max_tokens"] = 7
        part["fingerprint"] = manifests.fingerprint.digest({"recipe": part["recipe"], "inputs": part["inputs"]})
    (remote / "manifest.json").write_bytes(manifests.written(manifests.seal(told)))
    shutil.rmtree(remote / "manifests")
    assert melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(remote)))).id == team[0].id
    expected = 1 if change == "key" else sum(s["part"] == "mention.text" for s in told["shards"])
    assert watched[0].draft.shards("made") == {"mention.text": expected}


# --- options


def test_only_push_writes_to_the_remote(release, team, tmp_path, capsys):
    place = tmp_path / "new"
    pipeline.run(config(release, tmp_path, remote=str(place)))
    assert not place.exists() and f"nothing is published at {place}" in capsys.readouterr().err
    pipeline.run(config(release, tmp_path, remote=str(place), push=True))
    assert melcache.open(place).id == team[0].id and "published" in capsys.readouterr().err


def test_push_replaces_no_cache_of_other_recipes(release, team, tmp_path):
    place, published = tmp_path / "place", team[0].id
    pipeline.run(config(release, tmp_path / "a", remote=str(place), push=True))
    with pytest.raises(CacheError, match=r"is finished, but not published: .* has another cache.*--replace"):
        pipeline.run(config(release, tmp_path / "b", remote=str(place), push=True, sentence_tokens=9))
    assert melcache.open(place).id == published


def test_the_remote_comes_from_the_environment_where_no_option_names_one(monkeypatch, tmp_path):
    assert config(tmp_path, tmp_path, remote=None).url == ""
    monkeypatch.setenv("MELCACHE_REMOTE", "s3://team/caches/{name}")
    assert config(tmp_path, tmp_path, remote=None).url == "s3://team/caches/world"
    assert config(tmp_path, tmp_path, remote="other").url == "other"
    assert config(tmp_path, tmp_path, remote="").url == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"push": True}, "--push needs --remote URL"),
        ({"push": True, "remote": "team", "plan": True}, "--push with --plan"),
        ({"json": True}, "--json prints a plan: add --plan"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, tmp_path, **changes)


def test_a_url_that_can_be_none_stops_before_any_work(tmp_path):
    result = CliRunner().invoke(app, ["--dataset", "jsonl", "--data", str(tmp_path), "--remote", "ftp://team/world"])
    assert result.exit_code == 2 and "ftp:// is none of s3://" in result.stderr and "\n" not in result.stderr.strip()


# --- what it cost


def test_nothing_computed_leaves_the_record_of_who_computed_it(release, team, tmp_path):
    shutil.copytree(team[0].path, tmp_path / "world")
    pipeline.run(config(release, tmp_path))
    assert files(tmp_path / "world") == files(team[0].path)


def test_the_record_of_a_mixed_cache_adds_up(release, team, tmp_path, monkeypatch):
    there = team[0].manifest.provenance.rates
    rows = team[0].manifest.tables
    assert {part: rate.rows for part, rate in there.items()} == {
        part: rows[part.split(".")[0]] for part in team[0].manifest.parts
    }
    assert all(rate.seconds > 0 for rate in there.values())
    ticks = iter(range(10**9))
    monkeypatch.setattr(
        "extract.computing.part_clock.time.monotonic", lambda: float(next(ticks))
    )  # a second from call to call
    folder = shutil.copytree(team[0].path, tmp_path / "world")
    lost = next(s for s in team[0].manifest.shards if s.part == "entity.text")
    (folder / lost.file).unlink()
    provenance = melcache.open(pipeline.run(config(release, tmp_path))).manifest.provenance.noted
    assert provenance["parts"].keys() == there.keys()
    for part, rate in there.items():
        assert provenance["parts"][part]["rows"] == rate.rows, part
        if part != "entity.text":
            assert provenance["parts"][part]["seconds"] == pytest.approx(rate.seconds, abs=2e-3), part
    kept = there["entity.text"].seconds * (1 - lost.rows / rows["entity"])
    new = provenance["parts"]["entity.text"]["seconds"] - kept
    assert new > 1 and abs(new - round(new)) < 2e-3  # whole seconds by that clock
    assert provenance["made"] >= team[0].manifest.provenance.made
    assert provenance["seconds"] > sum(rate.seconds for rate in there.values()) - there["entity.text"].seconds


def test_time_counts_for_the_part_that_it_was_spent_on(release, tmp_path, monkeypatch):
    now = [0.0]
    main = threading.main_thread()  # the thread that writes takes no time
    monkeypatch.setattr(
        "extract.computing.part_clock.time.monotonic", lambda: now[0] if threading.current_thread() is main else 0.0
    )

    def slow(owner, name, seconds):
        inner = getattr(owner, name)

        def call(self, *arguments, **options):
            now[0] += seconds
            return inner(self, *arguments, **options)

        monkeypatch.setattr(owner, name, call)

    slow(Bert, "_encode", 1)
    slow(Clip, "encode_texts", 10)
    slow(Clip, "_seen", 100)
    slow(ResNet, "_begun", 1000)  # of pictures, and of the crops of objects
    slow(Objects, "_detect", 10000)
    parts = melcache.open(pipeline.run(config(release, tmp_path, shard_rows=9))).manifest.provenance.rates
    assert {part: rate.seconds for part, rate in parts.items() if rate.seconds} == {
        "entity.text": 1,
        "mention.text": 1,
        "entity.image": 1000 + 550,  # and half of the neutral picture, which is encoded with the entities
        "entity.joint": 10 + 100 + 550,
        "entity.objects": 10000 + 1000,
        "mention.image": 1000,
        "mention.joint": 10 + 100,
        "mention.objects": 10000 + 1000,
    }


def test_a_cache_without_a_record_of_seconds_is_fetched_too(release, team, remote, tmp_path, capsys):
    told = team[0].manifest.as_json() | {"provenance": {}}
    (remote / "manifest.json").write_bytes(manifests.written(manifests.seal(told)))
    reader = melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(remote))))
    assert reader.id == team[0].id and reader.manifest.provenance.rates == {}
    assert re.search(r"parts fetched from \S+ \([0-9.]+ kB\), none computed", capsys.readouterr().err)


def test_what_a_stranger_notes_of_the_making_is_taken_over_where_it_is_as_ours(release, team, remote, tmp_path):
    noted = team[0].manifest.provenance.noted
    more = {"device": "x" * 9999, "python": 3, "packages": {str(i): "" for i in range(90_000)} | noted["packages"]}
    told = team[0].manifest.as_json() | {"provenance": noted | more | {"secret": [[0] * 9] * 999}}
    (remote / "manifest.json").write_bytes(manifests.written(manifests.seal(told)))
    manifest = melcache.open(pipeline.run(config(release, tmp_path / "b", remote=str(remote)))).manifest
    found = manifest.provenance.noted
    assert manifest.id == team[0].id and found.keys() == {"made", "packages", "parts", "seconds"}
    assert found["made"] == noted["made"] and found["packages"] == noted["packages"]


def test_a_record_of_seconds_is_read_strictly(team):
    told = team[0].manifest.as_json()
    for wrong in (
        {"entity.text": {"seconds": -1, "rows": 1}},
        {"x": {"seconds": 1, "rows": 1}},
        [],
        {"entity.text": 1},
    ):
        told["provenance"] = {"parts": wrong}
        with pytest.raises(CacheError, match="field 'provenance'"):
            manifests.read(manifests.written(manifests.seal(told)), "there")


# --- why


def why(release, shards, capsys, **changes):
    pipeline.run(config(release, shards, explain=True, **changes))
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert all(len(line) <= 100 for line in lines)
    if not lines[0].startswith("recomputed"):
        return lines[0]
    begins = [found.start() for found in re.finditer(r"-+", lines[1])]  # of the columns
    rows = []
    for line in lines[2:]:
        part, where, reason = (line[a:b].strip() for a, b in zip(begins, [*begins[1:], None], strict=True))
        if part:
            rows.append([part, where, reason])
        else:
            rows[-1][2] += f" {reason}"
    return rows


def test_a_recipe_that_differs_is_named_field_by_field(release, team, tmp_path, capsys):
    lines = why(release, tmp_path, capsys, remote=str(team[1]), objects=2)
    assert lines == [
        ["entity.objects", "remote", "encoder.objects changed from 3 to 2"],
        ["mention.objects", "remote", "encoder.objects changed from 3 to 2"],
        ["pair.alignment", "remote", "its inputs changed: entity.objects, mention.objects"],
    ]


def test_rows_that_differ_are_counted(team, tmp_path, capsys):
    changed = write_world(tmp_path / "r", [("Paris at noon", *MENTIONS[0][1:]), *MENTIONS[1:]])
    found = {part: reason for part, _, reason in why(changed, tmp_path, capsys, remote=str(team[1]))}
    assert found["mention.text"] == "1 of 2 ranges: 1 of their 2 rows are new or changed"
    assert found["mention.joint"] == "1 of 2 ranges: 1 of their 2 rows are new or changed"
    assert "mention.image" not in found and not any(part.startswith("entity") for part in found)


def test_other_cuts_are_named(release, team, tmp_path, capsys):
    other = {"shard_rows": 3, "reorder": True}
    found = {part: reason for part, _, reason in why(release, tmp_path, capsys, remote=str(team[1]), **other)}
    reason = "2 of 2 ranges: the rows are divided differently, 2 to a range there: --shard-rows"
    assert found["entity.text"] == found["entity.image"] == reason


def test_a_damaged_shard_here_is_named(release, team, tmp_path, capsys):
    shutil.copytree(team[0].path, tmp_path / "world")
    flip(tmp_path / "world", next(s.file for s in team[0].manifest.shards if s.part == "mention.text"))
    [line] = why(release, tmp_path, capsys)
    assert line == [
        "mention.text",
        "this cache",
        "1 of 2 ranges: listed, but their files are missing, damaged, numbered differently, or could not be fetched",
    ]


def test_nothing_to_explain_is_said(release, team, tmp_path, capsys):
    said = why(release, tmp_path, capsys, remote=str(team[1]))
    assert said == "no part is computed again that is present locally or in the remote"
