"""melcache gc: what belongs to no cache goes, what a cache, a person or a living process has stays."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import melcache
from cache import manifests, store
from cache.checks import gc
from cache.cli import app
from cache.remotes.folder import Folder
from cache.sharing import pull, push
from cache.store import claims, temporary_names
from cache.store.claims import Claims
from cache.store.resumable_file import Growing
from cache.store.temporary_names import TemporaryName
from cache.writing import checksums
from cache.writing.draft import Draft
from common.errors import CacheError
from tests.worlds import synthetic_cache
from torture import tiny_cache

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("without_fsync")
STALE = "entity.text-00000.0123456789ab.h5"
GONE = "entity.text-00001.0123456789ab.h5"
FOREIGN = ["notes.txt", "data.h5", "entity.text.h5", "Entity.bert-00000.0123456789ab.h5", "x-00000.0123456789ab.h5"]


@pytest.fixture
def toy(tmp_path):
    return synthetic_cache(tmp_path / "shards/toy")


def old(path, data=b"x" * 1000):
    """Write a file as if it were older than the manifest."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1, 1))
    return path


def new(path, data=b"x" * 1000):
    path.write_bytes(data)
    later = (path.parent / manifests.NAME).stat().st_mtime + 5 if (path.parent / manifests.NAME).exists() else 5
    os.utime(path, (later, later))
    return path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_a_cache_as_written_has_nothing_left_over(toy):
    before = names(toy)
    assert gc.collect(toy, delete=True).files == [] and names(toy) == before


def test_shards_of_an_older_recipe_go_only_where_deletion_is_asked_for(toy):
    before, identity = names(toy), melcache.open(toy).id
    listed = {path.name: path.read_bytes() for path in toy.iterdir()}
    for path in toy.glob("*.h5"):
        os.utime(path, (1, 1))
    old(toy / STALE)
    found = gc.collect(toy)
    assert [(file.file, file.bytes, file.kept) for file in found.files] == [(STALE, 1000, False)]
    assert (toy / STALE).exists() and "1 file, 1.0 kB to be removed: add --delete" in str(found)
    assert "1 file, 1.0 kB removed" in str(gc.collect(toy, delete=True))
    assert names(toy) == before and melcache.open(toy).id == identity
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == listed


def test_the_shards_of_a_recipe_that_was_replaced_are_found(tmp_path):
    toy = synthetic_cache(tmp_path / "toy", seed=0)
    replaced = {path.name for path in toy.glob("*.h5")}
    synthetic_cache(toy, seed=1)
    assert {file.file for file in gc.collect(toy, delete=True).files} == replaced
    assert {path.name for path in toy.glob("*.h5")}.isdisjoint(replaced)
    melcache.open(toy)


def test_files_that_melcache_does_not_name_are_never_touched(toy):
    for name in FOREIGN:
        old(toy / name)
    (toy / "entity.text-00001.0123456789ab.h5").mkdir()
    (toy / "entity.text-00002.0123456789ab.h5").symlink_to(old(toy.parent / "precious"))
    os.mkfifo(toy / "entity.text-00003.0123456789ab.h5")
    old(toy / "deeper/entity.text-00000.0123456789ab.h5")
    old(toy / "manifests/notes.json")
    before = names(toy)
    assert gc.collect(toy, delete=True, unfinished=True).files == [] and names(toy) == before


def test_a_linked_folder_of_copies_is_not_followed(toy):
    elsewhere = old(toy.parent / f"elsewhere/{'0' * 64}.json").parent
    (toy / "manifests").symlink_to(elsewhere)
    assert gc.collect(toy, delete=True).files == [] and len(names(elsewhere)) == 1


def test_what_is_newer_than_the_manifest_is_work_and_stays(toy):
    new(toy / STALE)
    found = gc.collect(toy, delete=True)
    assert found.files[0].kept and (toy / STALE).exists()
    assert "nothing to remove; add --unfinished for what is kept" in str(gc.collect(toy))
    assert not gc.collect(toy, delete=True, unfinished=True).files[0].kept and not (toy / STALE).exists()


def test_without_a_manifest_everything_is_work(toy):
    (toy / manifests.NAME).unlink()
    before = names(toy)
    with pytest.raises(CacheError, match=r"has no manifest\.json: an interrupted extraction.* --unfinished"):
        gc.collect(toy, delete=True)
    assert names(toy) == before
    assert {file.kind for file in gc.collect(toy, unfinished=True).files} == {gc.WORK}
    assert names(toy) == before
    gc.collect(toy, delete=True, unfinished=True)
    assert names(toy) == []


def test_checksums_go_with_their_shards_and_stay_with_them(toy):
    listed = manifests.load(toy).shards[0].file
    old(toy / STALE)
    for file in (STALE, GONE, listed):
        checksums.note(toy, file, "a" * 64)
    stays = {f"{file}.{'a' * 64}" for file in (STALE, GONE, listed)}
    for name in stays - {f"{GONE}.{'a' * 64}"}:
        os.utime(toy / name, (1, 1))
    os.utime(toy / f"{GONE}.{'a' * 64}", (time.time() + 9,) * 2)
    found = {file.file: file.kept for file in gc.collect(toy, delete=True).files}
    assert found == {STALE: False, f"{listed}.{'a' * 64}": False, f"{GONE}.{'a' * 64}": True}
    assert [name for name in names(toy) if checksums.NAME.fullmatch(name)] == [f"{GONE}.{'a' * 64}"]
    gc.collect(toy, delete=True, unfinished=True)
    assert not [name for name in names(toy) if checksums.NAME.fullmatch(name)]


def test_a_damaged_manifest_removes_nothing(toy):
    old(toy / STALE)
    path = toy / manifests.NAME
    path.write_bytes(path.read_bytes().replace(b"toy", b"tog"))
    for options in ({}, {"unfinished": True}):
        with pytest.raises(CacheError, match="was changed after it was written"):
            gc.collect(toy, delete=True, **options)
    assert (toy / STALE).exists()


def test_temporary_files_of_the_dead_go_and_of_the_living_stay(toy):
    dead = old(toy / f"{temporary_names.PREFIX}{temporary_names._here().host}-1-1-{'0' * 12}")
    stranger = old(toy / f"{temporary_names.PREFIX}elsewhere-1-1-{'0' * 12}")  # a day old, wherever its writer was
    mine = new(toy / str(TemporaryName.new()))
    theirs = toy / f"{temporary_names.PREFIX}elsewhere-1-1-{'1' * 12}"
    theirs.write_bytes(b"x")
    found = {file.file for file in gc.collect(toy, delete=True).files}
    assert found == {dead.name, stranger.name}
    assert mine.exists() and theirs.exists() and not dead.exists() and not stranger.exists()


def test_claims_of_the_dead_go_and_of_the_living_stay(toy):
    dead, strange = toy / f"{claims.PREFIX}entity-00000", toy / f"{claims.PREFIX}pair-00001"
    dead.write_text(str(dataclasses.replace(TemporaryName.new(), start=1)))  # this process began later
    strange.write_text(str(TemporaryName.new()).replace(temporary_names._here().boot, "0123456789ab"))
    with Claims(toy).held("mention", 2) as mine:
        assert mine
        assert {file.file for file in gc.collect(toy, delete=True).files} == {dead.name}
        assert strange.exists() and (toy / f"{claims.PREFIX}mention-00002").exists()


def test_what_a_meeting_has_left_goes_once_it_is_older_than_the_cache(toy):
    left = [old(toy / f"meeting/{'0' * 16}-pair-00001.{kind}") for kind in ("claim", "json", "probe")]
    left.append(old(toy / f"meeting/{temporary_names.PREFIX}elsewhere-1-1-{'0' * 12}"))  # of a claim half written
    theirs, work = old(toy / "meeting/notes.json"), new(toy / f"meeting/{'1' * 16}-pair-00001.claim")
    os.utime(work, (time.time() + 9,) * 2)
    found = {file.file: file.kept for file in gc.collect(toy, delete=True).files}
    assert found == {str(path.relative_to(toy)): path == work for path in [*left, work]}
    assert theirs.exists() and work.exists() and not any(path.exists() for path in left)
    theirs.unlink()
    assert [file.kept for file in gc.collect(toy, delete=True, unfinished=True).files] == [False]
    assert not work.parent.exists()


def test_what_a_pull_would_go_on_from_stays_while_it_is_new(toy):
    with Growing(toy / STALE, "a" * 64) as file:
        file.write(b"half")
    (left,) = toy.glob(f"{temporary_names.PREFIX}*")
    os.utime(left, (time.time() + 9,) * 2)
    assert [file.kept for file in gc.collect(toy, delete=True).files] == [True] and left.exists()
    assert [file.kept for file in gc.collect(toy, delete=True, unfinished=True).files] == [False]
    assert not left.exists()


def test_a_living_writer_stops_the_removal_of_its_work(toy):
    (toy / manifests.NAME).unlink()
    (toy / str(TemporaryName.new())).write_bytes(b"x")
    before = names(toy)
    with pytest.raises(CacheError, match="is being written: wait until its process has ended"):
        gc.collect(toy, delete=True, unfinished=True)
    assert names(toy) == before


def test_a_pull_at_work_is_not_disturbed(toy):
    old(toy / STALE)
    code = (
        "import sys\nfrom pathlib import Path\nfrom cache import store\n"
        "with store.alone(Path(sys.argv[1])):\n    print(flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(toy)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(CacheError, match="another process is writing"):
            gc.collect(toy, delete=True)
        assert gc.collect(toy).files and (toy / STALE).exists()
        other.stdin.close()
    gc.collect(toy, delete=True)
    assert not (toy / STALE).exists()


def test_what_a_running_extraction_has_taken_stays_even_where_there_are_no_locks(tmp_path):
    tiny_cache.build(tmp_path / "toy", 1)
    tiny_cache.build(tmp_path / "toy", 2)  # another recipe, in its place
    folder, taken = tmp_path / "toy", [shard.plan for shard in tiny_cache.shards(1)]
    for path in folder.glob("*.h5"):
        os.utime(path, (1, 1))
    running = Draft(folder)
    assert all(running.adopt(plan) for plan in taken[:4])
    removed = {file.file for file in gc.collect(folder, delete=True).files if not file.kept}
    assert removed == {plan.file for plan in taken[4:]}
    for shard in tiny_cache.shards(1)[4:]:
        running.save(shard)
    (folder / taken[0].file).unlink()
    with pytest.raises(CacheError, match=rf"{taken[0].file} was removed while this ran.*Run the same command again"):
        running.finish(tiny_cache.ABOUT, {})
    assert tiny_cache.build(folder, 1) == melcache.open(folder).id


def test_a_place_that_is_being_pushed_to_is_not_cleaned(toy, tmp_path, monkeypatch):
    remote, inner, said = tmp_path / "remote", Folder.create, []
    push.push(synthetic_cache(tmp_path / "other/toy", seed=1), str(remote))
    old(remote / STALE)

    def create(self, *given, **more):
        with pytest.raises(CacheError, match="another process is writing to") as caught:
            gc.collect(remote, delete=True)
        said.append(caught.value)
        return inner(self, *given, **more)

    monkeypatch.setattr(Folder, "create", create)
    push.push(toy, str(remote), replace=True)
    assert said and {file.file for file in gc.collect(remote, delete=True).files} == {STALE}


def test_a_part_keeps_the_proof_and_the_signature_of_its_whole(tmp_path):
    whole, remote, part = synthetic_cache(tmp_path / "whole", heads="drin,clip"), tmp_path / "remote", tmp_path / "part"
    push.push(whole, str(remote))
    pull.pull(part, str(remote), heads="drin")
    identity = melcache.open(part).id
    (part / manifests.signature_of(identity)).write_bytes(b"signature")
    before = names(part)
    for name in (manifests.copy_of("0" * 64), manifests.signature_of("0" * 64)):
        old(part / name)
    assert {file.kind for file in gc.collect(part, delete=True).files} == {gc.OTHER}
    assert names(part) == before and melcache.open(part).id == identity


def test_the_rest_of_a_whole_cache_goes_where_a_part_took_its_place(tmp_path):
    whole, remote, here = synthetic_cache(tmp_path / "whole", heads="drin,clip"), tmp_path / "remote", tmp_path / "here"
    push.push(whole, str(remote))
    pull.pull(here, str(remote), heads="drin")
    clip = next(path for path in whole.glob("entity.joint-*.h5"))
    os.utime(shutil.copyfile(clip, here / clip.name), (1, 1))
    assert [file.file for file in gc.collect(here, delete=True).files] == [clip.name]


def test_a_place_that_others_pull_from_keeps_every_publication(tmp_path):
    remote = tmp_path / "remote"
    first = push.push(synthetic_cache(tmp_path / "a/toy", seed=0), str(remote)).id
    push.push(synthetic_cache(tmp_path / "b/toy", seed=1), str(remote), replace=True)
    before = names(remote)
    for path in remote.rglob("*.h5"):
        os.utime(path, (1, 1))
    old(remote / STALE)
    assert [file.file for file in gc.collect(remote, delete=True).files] == [STALE]
    assert names(remote) == before
    assert pull.pull(tmp_path / "here", str(remote), identity=first).id == first


def test_the_command_lists_all_caches_and_removes_where_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        old(synthetic_cache(tmp_path / "shards" / name) / STALE)
    (tmp_path / "shards/unfinished").mkdir()
    run = CliRunner()
    done = run.invoke(app, ["gc"])
    assert done.exit_code == 0 and done.stdout.count("to be removed: add --delete") == 2
    assert "shards that no manifest here lists" in done.stdout
    found = json.loads(run.invoke(app, ["gc", "one", "--delete", "--json"]).stdout)
    assert found[0]["deleted"] and found[0]["files"][0] | {"kind": ""} == {
        "file": STALE, "bytes": 1000, "kind": "", "kept": False, "shared": False,
    }  # fmt: skip
    assert not (tmp_path / "shards/one" / STALE).exists() and (tmp_path / "shards/two" / STALE).exists()
    assert "has no manifest.json" in run.invoke(app, ["gc", "unfinished"]).stderr
    assert "No cache for 'nowhere'" in run.invoke(app, ["gc", "nowhere"]).stderr
    shutil.rmtree("shards")
    assert "there is no cache in shards/" in run.invoke(app, ["gc"]).stderr


def test_an_empty_folder_goes_with_its_lock_only_if_the_lock_made_it(tmp_path):
    owned = tmp_path / "owned"
    owned.mkdir()
    for folder in (owned, tmp_path / "made"):
        with pytest.raises(CacheError, match="in vain"), store.alone(folder):
            raise CacheError("in vain")
    assert [path.name for path in tmp_path.iterdir()] == ["owned"]
    first = store.together(tmp_path / "made")
    first.__enter__()
    with store.together(tmp_path / "made"):
        first.__exit__(None, None, None)
        assert (tmp_path / "made").is_dir()  # the other is at work in it
