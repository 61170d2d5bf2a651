"""Caches beside: what another cache in the folder has finished by the same key is taken, its file shared, not made."""

import errno
import os
import shutil
from functools import partial

import pytest

import melcache
from cache import manifests
from cache.checks import gc, verify
from cache.store import lacking
from cache.writing import draft
from cache.writing.draft import Draft
from cache.writing.writer import adopt
from common.errors import CacheError, DeniedError
from extract import pipeline, plan, siblings
from extract.computing.row_range import Range
from extract.planning.shards import missing
from extract.preparation import prepare
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
ENTITIES = [("Paris", "in France", "red.png"), ("Lyon", "", "blue.png"), ("Rome", "in Italy", None)]
MENTIONS = [
    ("Paris at night", "Paris", "red.png"),
    ("Old Lyon", "Lyon", None),
    ("A walk in Rome", "Rome", "green.png"),
    ("Lyon", "Lyon", "blue.png"),
]
OBJECTS = {"entity.objects", "mention.objects", "pair.alignment"}  # what another detector changes
TEXT = {"entity.text", "mention.text", "pair.alignment"}  # what another length of texts changes


def records(mentions=MENTIONS, entities=ENTITIES):
    return (
        [mention_record(i, *mention, gold=f"e{i % 3}") for i, mention in enumerate(mentions)],
        [entity_record(i, *entity) for i, entity in enumerate(entities)],
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, {"red.png": (40, 30), "green.png": (33, 50), "blue.png": (64, 48)})
    return write_release(folder, *records())


@pytest.fixture(scope="module")
def first(release, tmp_path_factory):
    """A finished cache, made alone; tests copy it."""
    return pipeline.run(config(release, tmp_path_factory.mktemp("first"), name="first"))


@pytest.fixture(scope="module")
def alone(release, tmp_path_factory):
    """The id of the cache with two objects to a picture, made alone."""
    return melcache.open(pipeline.run(config(release, tmp_path_factory.mktemp("alone"), **OTHER))).id


config = partial(extract_config, candidates=2, shard_rows=2)
OTHER = {"name": "second", "objects": 2}


@pytest.fixture
def beside(first, tmp_path):
    """A copy of the first cache in a folder of caches of the test's own."""
    return shutil.copytree(first, tmp_path / "first")


def parts(shards):
    return {shard.part for shard in shards}


def counts(work):
    return {role: sum(encoder.counts.values()) for role, encoder in work.encoders.by_role.items()}


def whole(folder):
    return not any(verify.check(folder, shard).problem for shard in manifests.load(folder).shards)


def shared(folder):
    """The parts of a cache of which every file, and of which no file, has a second name."""
    manifest = manifests.load(folder)
    links = {part: {(folder / s.file).stat().st_nlink for s in manifest.shards_of(part)} for part in manifest.parts}
    return {part for part, found in links.items() if found == {2}}, {p for p, found in links.items() if found == {1}}


@pytest.mark.parametrize(
    ("changes", "made", "role", "spared"),
    [
        ({"objects": 2}, OBJECTS, "objects", ("text", "joint")),  # objects are described by the image encoder
        ({"entity_tokens": 5}, {"entity.text", "pair.alignment"}, "text", ("joint", "image", "objects")),
    ],
)
def test_only_the_role_that_changed_is_encoded(release, beside, tmp_path, watched, changes, made, role, spared):
    folder = pipeline.run(config(release, tmp_path, name="second", **changes))
    (work,) = watched
    encoded = counts(work)
    assert encoded[role] > 0 and all(encoded[other] == 0 for other in spared)
    assert work.draft.shards("made").keys() == made
    both, own = shared(folder)
    assert (own, both) == (made, manifests.load(folder).parts.keys() - made)
    elsewhere = pipeline.run(config(release, tmp_path / "elsewhere", name="second", **changes))
    assert melcache.open(folder).id == melcache.open(elsewhere).id
    assert counts(watched[1])["joint"] > 0


def test_a_copy_under_another_name_encodes_nothing_and_keeps_what_it_had_cost(release, beside, tmp_path, watched):
    folder = pipeline.run(config(release, tmp_path, name="second"))
    assert set(counts(watched[0]).values()) == {0} and watched[0].draft.made == 0
    there, here = manifests.load(beside), manifests.load(folder)
    assert here.shards == there.shards and here.dataset.name == "second"
    rates = {part: (rate.rows, pytest.approx(rate.seconds, abs=0.01)) for part, rate in there.provenance.rates.items()}
    assert {part: (rate.rows, rate.seconds) for part, rate in here.provenance.rates.items()} == rates
    assert here.provenance.made == there.provenance.made


def test_a_cache_that_becomes_what_a_sibling_is_notes_the_siblings_times(release, beside, tmp_path, watched):
    folder = pipeline.run(config(release, tmp_path / "elsewhere", **OTHER)).rename(tmp_path / "second")
    pipeline.run(config(release, tmp_path, name="second"))
    there, here = (manifests.load(path).provenance for path in (beside, folder))
    assert (watched[1].draft.made, watched[1].draft.taken) == (0, 6)
    assert here.rates["entity.objects"] == there.rates["entity.objects"]


def test_the_cache_itself_is_no_sibling(release, beside, tmp_path, capsys):
    """A shard of its own that is gone is computed again, and nothing is said of another cache."""
    file_of(beside, "entity.joint").unlink()
    (tmp_path / "alias").symlink_to(beside)
    pipeline.run(config(release, tmp_path, name="first"))
    assert whole(beside) and "not taken" not in capsys.readouterr().err


def test_a_plan_counts_what_a_sibling_has_as_present_and_says_whose_it_is(release, beside, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    asked = config(release, tmp_path, explain=True, **OTHER)
    told = plan.forecast(asked, prepare(asked))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    for line in told["parts"]:
        lent = 0 if line["part"] in OBJECTS else line["shards"]
        assert (line["here"], line["siblings"]) == (lent, {"first": lent} if lent else {}), line["part"]
        assert (line["compute"], line["bytes"] == 0) == (line["shards"] - lent, lent > 0)
    assert sum(line["pictures"] for line in told["parts"]) == 3  # of objects alone
    text = plan.report(told)
    taken = sum(line["here"] for line in told["parts"])
    assert f"of those present: {taken} shards from sibling first" in text
    because = {reason["part"]: reason["why"] for reason in told["why"]}
    assert because.keys() == OBJECTS and "changed from 3 to 2" in because["entity.objects"]


def test_explain_shows_what_is_taken_from_which_sibling(release, beside, tmp_path, capsys):
    pipeline.run(config(release, tmp_path, explain=True, **OTHER))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["entity.text", "first", "2"] in rows
    assert not any(row[:2] == ["entity.objects", "first"] for row in rows)


# --- what is not taken


def flip(path):
    """Flip a bit of a column, in place."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def file_of(folder, part):
    return folder / manifests.load(folder).shards_of(part)[0].file


def replace_by_link(folder):
    path = file_of(folder, "entity.joint")
    path.rename(folder.parent / "moved")
    path.symlink_to(folder.parent / "moved")


def change_manifest(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"python":"3', b'"python":"2', 1))


HARM = {
    "damaged": (lambda folder: flip(file_of(folder, "entity.joint")), "damaged since it was finished", 1),
    "gone": (lambda folder: file_of(folder, "entity.joint").unlink(), "No such file", 1),
    "cut": (lambda folder: os.truncate(file_of(folder, "entity.joint"), 100), "damaged since it was finished", 1),
    "a link": (replace_by_link, "is a link", None),
    "another manifest": (change_manifest, "its digest does not match", None),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_wrong_with_a_sibling_costs_one_line_and_nothing_else(
    release, beside, alone, tmp_path, watched, capsys, harm
):
    harmed, reason, lost = HARM[harm]
    harmed(beside)
    told = plan.forecast(asked := config(release, tmp_path, **OTHER), prepare(asked))
    capsys.readouterr()
    names = {path.name: path.lstat().st_size for path in beside.iterdir()}
    folder = pipeline.run(asked)
    assert melcache.open(folder).id == alone
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: not taken")]
    assert reason in line and "first" in line
    made = watched[0].draft.shards("made")
    assert {line["part"]: line["compute"] for line in told["parts"] if line["compute"]} == made
    assert made["entity.joint"] == (lost or 2) and (made.keys() == OBJECTS | {"entity.joint"}) == (lost is not None)
    assert {path.name: path.lstat().st_size for path in beside.iterdir()} == names
    assert whole(folder)


def test_a_sibling_that_one_may_not_look_at_is_one_line(release, beside, alone, tmp_path, monkeypatch, capsys):
    def refused(path):
        if path.parent == beside:
            raise DeniedError(f"cannot look at {path}: Permission denied")
        return os.path.lexists(path)

    monkeypatch.setattr(siblings, "exists", refused)
    assert melcache.open(pipeline.run(config(release, tmp_path, **OTHER))).id == alone
    assert capsys.readouterr().err.count("Permission denied") == 1


def test_a_folder_without_a_manifest_is_no_sibling_and_no_line(release, beside, tmp_path, watched, capsys):
    (beside / "manifest.json").unlink()
    (tmp_path / "notes.txt").write_text("mine")
    pipeline.run(config(release, tmp_path, **OTHER))
    assert watched[0].draft.taken == 0 and "not taken" not in capsys.readouterr().err


def test_values_that_the_release_refutes_are_not_taken(release, beside, alone, tmp_path, watched, monkeypatch):
    """A sibling's manifest may list anything; what the release alone decides is compared with it."""
    strange = write_release(tmp_path / "release", *records([(t, s, None) for t, s, _ in MENTIONS]))
    write_pictures(strange, {"red.png": (40, 30), "green.png": (33, 50), "blue.png": (64, 48)})
    pipeline.run(config(strange, tmp_path, name="third"))
    shutil.rmtree(beside)
    assert melcache.open(pipeline.run(config(release, tmp_path, **OTHER))).id == alone
    assert watched[1].draft.shards("taken").keys() == {
        "entity.ids",
        "entity.text",
        "entity.image",
        "entity.joint",
        "mention.text",
    }


def test_the_next_sibling_is_asked_where_the_first_is_damaged(release, beside, tmp_path, watched):
    shutil.copytree(beside, tmp_path / "zweite")
    flip(file_of(beside, "entity.joint"))
    pipeline.run(config(release, tmp_path, **OTHER))
    assert watched[0].draft.shards("made").keys() == OBJECTS


# --- whose order of rows


def test_the_order_of_a_grown_sibling_is_followed_where_that_saves_work(release, tmp_path, watched, capsys):
    """In the release's own order the new rows would stand first, so that no shard of mentions were the sibling's."""
    source = shutil.copytree(release, tmp_path / "release")
    pipeline.run(config(source, tmp_path, name="grown"))
    mentions, entities = records()
    new = mention_record(9, "A tower of Nice", "Nice", gold="e9")
    write_release(source, [new, *mentions], [entity_record(9, "Nice", "a port"), *entities])
    grown = pipeline.run(config(source, tmp_path, name="grown"))
    folder = pipeline.run(config(source, tmp_path, **OTHER))
    assert watched[2].draft.shards("made").keys() == OBJECTS
    there, here = melcache.open(grown), melcache.open(folder)
    assert here.manifest.generations == there.manifest.generations == ((3, 4), (4, 5))
    for column in ("entity.ids.id", "mention.ids.id", "mention.text.span"):
        assert here.column(column).tobytes() == there.column(column).tobytes()
    assert "rows are numbered as in a cache beside" in capsys.readouterr().err
    anew = pipeline.run(config(source, tmp_path, name="anew", reorder=True))
    assert melcache.open(anew).column("mention.ids.id")[0] == b"m9"


def test_a_sibling_of_the_same_ids_and_other_texts_leaves_the_order_alone(release, alone, tmp_path, watched):
    """Ids such as m0 tell nothing: the other release has the same in another order, and no row of it is the same."""
    other = write_release(
        tmp_path / "release", *(part[::-1] for part in records([("A", "A", None)] * 4, ENTITIES[::-1]))
    )
    write_pictures(other, {"red.png": (40, 30), "blue.png": (64, 48)})
    pipeline.run(config(other, tmp_path, name="first"))
    assert melcache.open(pipeline.run(config(release, tmp_path, **OTHER))).id == alone


def test_a_sibling_of_other_ranges_lends_them_and_what_they_cut(release, tmp_path, watched):
    """Ranges of three rows where this one would have two: what was encoded together serves only whole."""
    pipeline.run(config(release, tmp_path, name="first", shard_rows=3))
    folder = pipeline.run(config(release, tmp_path, **OTHER))
    assert watched[1].draft.shards("made").keys() == OBJECTS
    assert [shard.rows for shard in manifests.load(folder).shards_of("entity.ids")] == [3]


def test_a_remote_beside_is_asked_as_a_remote(release, beside, tmp_path, watched):
    """It may have to be signed, and its bytes count as fetched."""
    pipeline.run(config(release, tmp_path, remote=str(beside), **OTHER))
    assert watched[0].draft.taken == 0 and watched[0].draft.fetched > 0


# --- one file, two caches


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_files_cannot_be_shared_they_are_copied(release, beside, alone, tmp_path, monkeypatch, capsys, error):
    real = os.link

    def link(source, target):
        if str(source).startswith(str(beside)):
            raise OSError(error, os.strerror(error))
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(lacking, "_told", set())
    folder = pipeline.run(config(release, tmp_path, **OTHER))
    assert melcache.open(folder).id == alone and shared(folder)[0] == set()
    assert capsys.readouterr().err.count("lets no two caches share a file") == 1


def test_each_cache_lives_without_the_other(release, beside, alone, tmp_path):
    second = pipeline.run(config(release, tmp_path, **OTHER))
    third = pipeline.run(config(release, tmp_path, name="third", objects=1))
    assert file_of(third, "entity.text").stat().st_nlink == 3
    shutil.rmtree(beside)
    assert whole(second)
    pipeline.run(config(release, tmp_path, name="third", entity_tokens=5))  # other texts in its own folder
    collected = gc.collect(third, delete=True)
    assert {(file.kind, file.shared) for file in collected.files} == {(gc.SHARDS, True), (gc.SHARDS, False)}
    assert "of that stays on the disk, in caches beside" in str(collected)
    assert whole(second)
    assert file_of(second, "entity.text").stat().st_nlink == 1


def test_a_shared_file_that_rots_is_made_anew_once_and_taken_back(release, beside, alone, tmp_path, watched):
    second = pipeline.run(config(release, tmp_path, **OTHER))
    flip(file_of(beside, "entity.joint"))
    assert not whole(beside) and not whole(second)
    pipeline.run(config(release, tmp_path, **OTHER))
    pipeline.run(config(release, tmp_path, name="first"))
    assert [work.draft.shards("made") for work in watched[1:]] == [{"entity.joint": 1}, {}]
    assert whole(beside) and whole(second) and melcache.open(second).id == alone


def test_a_file_that_its_disk_does_not_give_is_not_held_on_to(release, beside, alone, tmp_path, monkeypatch):
    def failing(plan, folder):
        if plan.part.name == "entity.joint" and (folder / plan.file).exists() and folder != beside:
            raise CacheError(f"cannot read {folder / plan.file}: Input/output error")
        return adopt(plan, folder)

    with monkeypatch.context() as patched:
        patched.setattr(draft, "adopt", failing)
        with pytest.raises(Killed):
            patched.setattr(Range, "save_all", killed)
            pipeline.run(config(release, tmp_path, **OTHER))
    assert not list((tmp_path / "second").glob("entity.joint*.h5"))
    assert melcache.open(pipeline.run(config(release, tmp_path, **OTHER))).id == alone


class Killed(BaseException):
    pass


def killed(*_):
    raise Killed


@pytest.mark.parametrize(("owner", "step"), [(Draft, "adopt"), (Range, "save_all")])
def test_a_kill_midway_leaves_what_continues_to_the_same_cache(
    release, beside, alone, tmp_path, watched, monkeypatch, owner, step
):
    """Killed when the first shared file has its name and is not looked at yet, or when the first range is computed."""
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "missing", lambda plan, finished, *more: missing(plan, lambda shard: False, *more))
        patched.setattr(owner, step, killed)
        with pytest.raises(Killed):
            pipeline.run(config(release, tmp_path, **OTHER))
    assert list((tmp_path / "second").glob("*.h5"))
    folder = pipeline.run(config(release, tmp_path, **OTHER))
    assert melcache.open(folder).id == alone
    assert watched[-1].draft.shards("made").keys() == OBJECTS
    assert {path.suffix for path in folder.iterdir()} == {".h5", ".json"}
