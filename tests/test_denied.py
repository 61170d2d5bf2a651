"""What this user may not look at is called that: not missing, not unfinished, not damaged, and never a traceback."""

import ast
import ctypes
import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cache import manifests, reader, store
from cache.checks import verify
from cache.cli import app
from cache.sharing import pull, push
from cache.store import resumable_file
from cache.writing.draft import Draft
from common import paths
from common.errors import CacheError, DatasetError, DeniedError, WeightsError
from common.paths import find_cache
from extract import datasets
from extract.attributes import faces
from extract.computing import coverage
from extract.planning.row_order import EarlierRows
from extract.weights import sources
from tests.worlds import write_files, write_release

ROOT = Path(__file__).parent.parent
CAPABILITIES = 0x20080522  # linux/capability.h: version 3
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
LONG = "x" * 300


@pytest.fixture
def bound():
    """Let root, too, be bound by permissions: without the capabilities that lift them, until the test is over."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] &= ~(DAC_OVERRIDE | DAC_READ_SEARCH)
    assert libc.capset(header, data) == 0
    yield
    data[0] = before
    assert libc.capset(header, data) == 0


@pytest.fixture
def toy(toy_cache, tmp_path):
    yield shutil.copytree(toy_cache, tmp_path / "toy")
    for top, folders, _ in os.walk(tmp_path):
        for name in folders:
            (Path(top) / name).chmod(0o755)  # before it is walked


@pytest.fixture
def release(tmp_path):
    """Two mentions and an entity, with pictures."""
    mentions = [{"id": f"m{i}", "text": "At Rome", "mention": "Rome", "image": f"images/{i}.png"} for i in (0, 1)]
    entities = [{"id": "Q1", "name": "Rome", "image": "images/Q1.png"}]
    folder = write_release(tmp_path / "data", mentions, entities)
    write_files(folder / "images", {f"{name}.png": b"x" for name in ("0", "1", "Q1")})
    yield folder
    folder.chmod(0o755)
    (folder / "images").chmod(0o755)


def told(*command):
    """What a command says, in one line, where it is not let do its work."""
    done = CliRunner().invoke(app, list(map(str, command)))
    error = done.output.removeprefix("error: ")
    assert done.exit_code and "Permission denied" in error and "\n" not in error.strip(), (done.exception, done.output)
    return error


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o222])
def test_a_cache_in_a_closed_folder_is_not_called_unfinished(toy, tmp_path, bound, mode):
    toy.chmod(mode)
    for command in (
        ("info", toy), ("verify", toy), ("card", toy), ("gc", toy), ("export", toy, tmp_path / "x.tar"),
        ("diff", toy, toy), ("push", toy, tmp_path / "team"), ("pull", tmp_path / "new", toy),
    ):  # fmt: skip
        assert "finished" not in told(*command) and not (tmp_path / "x.tar").exists()
    for look in (Draft, EarlierRows.of, reader.open, find_cache):
        with pytest.raises(DeniedError, match="Permission denied"):
            look(toy)


def test_a_manifest_that_may_not_be_read_is_not_taken_for_none(toy, bound, tmp_path):
    other = shutil.copytree(toy, tmp_path / "other")
    (toy / "manifest.json").chmod(0)
    for work in (
        lambda: Draft(toy), lambda: EarlierRows.of(toy), lambda: list(verify.verify(toy)),
        lambda: pull.pull(toy, str(other)), lambda: push.push(other, str(toy)),
    ):  # fmt: skip
        with pytest.raises(CacheError, match=r"manifest\.json: Permission denied"):
            work()
    (toy / "manifest.json").chmod(0o644)
    assert Draft(toy).before == manifests.load(other)


def test_a_shard_that_may_not_be_read_is_not_called_damaged(toy, bound, monkeypatch):
    monkeypatch.setattr("cache.checks.hdf5_gate.problems", lambda folder, found, shards: ((s.file, "") for s in shards))
    shard = manifests.load(toy).shards[0].file
    (toy / shard).chmod(0)
    done = CliRunner().invoke(app, ["verify", str(toy)])
    assert done.exit_code == 1 and f"{shard}: Permission denied" in done.output
    assert "1 not read, so nothing is known of them" in done.output and "remove" not in done.output
    with pytest.raises(CacheError, match="Permission denied"):
        reader.open(toy).load(reader.open(toy).columns)
    (toy / manifests.load(toy).shards[1].file).write_bytes(b"damaged")
    done = CliRunner().invoke(app, ["verify", str(toy)])
    assert "1 damaged: remove them" in done.output and "; 1 not read" in done.output


def test_a_remote_in_a_closed_folder_is_not_called_empty(toy, tmp_path, bound):
    team = tmp_path / "team"
    push.push(toy, str(team))
    team.chmod(0)
    assert "there is no cache" not in told("pull", tmp_path / "new", team)
    told("push", toy, team)


def test_another_place_is_looked_at_before_a_closed_one_is_told(toy, tmp_path, bound, monkeypatch):
    (tmp_path / "here/toy").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("toy").chmod(0)
    assert find_cache("toy", tmp_path) == toy
    with pytest.raises(DeniedError, match=r"cannot look at toy/manifest\.json: Permission denied\. Let this user"):
        find_cache("toy", tmp_path / "nowhere")
    Path("toy").chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_pictures_in_a_closed_folder_are_not_called_missing(release, bound, mode):
    dataset = datasets.load("jsonl", release)
    coverage.stop_if_absent(dataset, 0)
    (release / "images").chmod(mode)
    with pytest.raises(DeniedError, match=r"cannot look at .*png: Permission denied"):
        coverage.stop_if_absent(datasets.load("jsonl", release), 1)


def test_a_closed_folder_of_pictures_is_one_line(release, bound):
    write = {
        "Wikidata-MEL.json": {
            "1": {"sentence": "Paris", "mentions": ["Paris"], "entities": ["Paris"], "answer": ["Q90"]}
        },
        "splits.json": {"train": ["1"], "dev": [], "test": []},
        "qid2ne.json": {"Q90": "Paris"},
    }
    for name in ("mentions.jsonl", "entities.jsonl"):
        (release / name).unlink()
    for name, value in write.items():
        (release / name).write_text(json.dumps(value))
    assert len(datasets.load("wikimel", release).mentions) == 1
    (release / "images").chmod(0)
    with pytest.raises(DeniedError, match=r"cannot list .*images: Permission denied"):
        datasets.load("wikimel", release)
    (release / "images").chmod(0o755)
    (release / "splits.json").chmod(0)
    with pytest.raises(DatasetError, match=r"splits\.json cannot be read: Permission denied$"):
        datasets.load("wikimel", release)


@pytest.mark.parametrize("name", ["jsonl", "wikimel", "wikidiverse", "richpedia", "mimic", "demo"])
def test_a_closed_release_is_not_called_missing(release, bound, name):
    release.chmod(0)
    with pytest.raises((DeniedError, DatasetError), match="Permission denied"):
        datasets.load(name, release)


def test_closed_weights_and_faces_are_one_line(tmp_path, bound):
    (tmp_path / "no").mkdir(mode=0)
    with pytest.raises(DeniedError, match="Permission denied"):
        sources.parse(str(tmp_path / "no/w"))
    wanted = sources.Wanted("bert", ("model.safetensors",), "https://example.org")
    with pytest.raises(DeniedError, match="Permission denied"):
        sources.parse(str(tmp_path / "no")).find(wanted, Path)
    (tmp_path / "file").touch(mode=0)
    with pytest.raises(WeightsError, match="Permission denied"):
        sources.sha256_file(tmp_path / "file")
    with pytest.raises(DeniedError, match="Permission denied"):
        faces.load_deepface(tmp_path / "no")


def test_a_name_of_300_letters_is_a_name_that_nothing_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CacheError, match="No cache for"):
        find_cache(LONG)
    with pytest.raises(DatasetError, match="where there is no folder"):
        datasets.load("jsonl", Path(LONG))
    with pytest.raises(WeightsError, match="no such folder"):
        sources.parse(LONG)
    for command in (("info", LONG), ("gc", LONG), ("pull", LONG, "nowhere"), ("synth", LONG)):
        done = CliRunner().invoke(app, command)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert not any(map(paths.exists, (Path(LONG), Path("a\0b"), Path("a/b"))))


def test_what_a_failing_disk_says_of_a_path_is_told(tmp_path, monkeypatch):
    def fail(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(DeniedError, match=r"cannot look at .*a: Input/output error$"):
        paths.exists(tmp_path / "a")


def test_a_key_that_may_not_be_read_is_not_called_missing(toy, tmp_path, bound):
    (tmp_path / "key").touch(mode=0)
    assert "cannot open" in told("sign", toy, "--key", tmp_path / "key")


def test_gc_says_which_caches_it_may_not_look_at(toy, tmp_path, bound, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.move(toy, tmp_path / "shards/toy")
    (tmp_path / "shards/closed").mkdir(mode=0)
    done = CliRunner().invoke(app, ["gc"])
    assert done.exit_code == 0 and "shards/toy: nothing is left over" in done.stdout
    assert "warning: cannot look at shards/closed/manifest.json: Permission denied" in done.stderr
    (tmp_path / "shards").chmod(0)
    told("gc")


@pytest.mark.parametrize("option", ["--data", "--shards"])
def test_a_closed_folder_of_an_option_is_one_line(option, release, tmp_path, bound):
    from extract.cli import app as extract

    (tmp_path / "closed").mkdir(mode=0)
    options = {"--data": str(release), "--shards": str(tmp_path / "s")} | {option: str(tmp_path / "closed")}
    command = ["--dataset", "jsonl", "--weights", "random-tiny", *(word for pair in options.items() for word in pair)]
    done = CliRunner().invoke(extract, command)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: cannot look at {tmp_path}/closed/") and "Permission denied" in done.stderr


def test_a_folder_that_may_not_be_written_to_needs_no_room(tmp_path, bound):
    (tmp_path / "closed").mkdir(mode=0o555)
    for write in (
        lambda: store.publish(tmp_path / "closed/a", b"", replace=True),
        lambda: store.append(tmp_path / "closed/a", b""),
        lambda: resumable_file.Growing(tmp_path / "closed/a", "0" * 64).__enter__(),
        lambda: store.published(tmp_path / "closed/a").__enter__(),
    ):
        with pytest.raises(CacheError, match=r"cannot write .*a: Permission denied.* let this user write there"):
            write()


# --- links, of which a snapshot in the Hub's download cache, DVC and git-annex consist


@pytest.fixture
def linked(toy, tmp_path):
    folder = tmp_path / "linked"
    folder.mkdir()
    for path in toy.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_a_cache_of_links_is_called_that(linked, toy, tmp_path):
    said = f"manifest.json is a link: copy with cp -L, as in cp -rL {linked} COPY"
    for work in (lambda: reader.open(linked), lambda: Draft(linked), lambda: pull.pull(tmp_path / "new", str(linked))):
        with pytest.raises(DeniedError, match=said):
            work()
    (toy / "manifest.json").unlink()
    with pytest.raises(DeniedError, match="is a link to a missing file: copy with cp -L"):
        reader.open(linked)


def test_shards_that_are_links_are_neither_cut_off_nor_to_be_removed(linked, toy):
    (linked / "manifest.json").unlink()
    shutil.copy(toy / "manifest.json", linked)
    for work in (lambda: reader.open(linked), lambda: Draft(linked)):
        with pytest.raises(DeniedError, match=r"h5 is a link: copy with cp -L"):
            work()
    done = CliRunner().invoke(app, ["verify", str(linked)])
    count = len(manifests.load(toy).shards)
    assert done.exit_code == 1 and done.output.count("is a link: copy with cp -L") == count
    assert f"0 of {count} shards as written" in done.output and "remove" not in done.output
    assert done.output.endswith(f"; {count} links, not read: copy with cp -L\n")
    assert store.sweep(linked) == 0 and len(list(linked.iterdir())) == count + 1


# --- looks that swallow what the system says, or raise it


LOOKS = {"exists", "is_file", "is_dir", "isfile", "isdir", "lexists", "iterdir", "listdir", "scandir", "walk"}
EXEMPT = {
    "common/paths.py": {"listdir", "scandir", "is_file"},
    "cache/checks/hdf5_gate.py": {"exists"},  # of a link in an HDF5 file
    "cache/store/lacking.py": {"lexists"},  # before a rename, which says more
    "cache/store/__init__.py": {"exists"},  # of what a link points to
    "cache/remotes/folder.py": {"listdir", "is_dir"},  # inside `ask`
    "extract/datasets/demo.py": {"is_file"},  # inside a try
}


def looks(source):
    """The calls with which a module looks at paths itself; common.paths has functions of some of these names."""
    if not re.search(rf"\.({'|'.join(LOOKS)})\(", source):
        return set()
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        call.attr
        for call in calls
        if isinstance(call, ast.Attribute) and call.attr in LOOKS and ast.unparse(call.value) not in ("paths", "ast")
    }


def test_nothing_looks_at_a_path_around_the_functions():
    files = (path for folder in ("common", "cache", "extract") for path in (ROOT / folder).rglob("*.py"))
    modules = {str(path.relative_to(ROOT)): path for path in files}
    found = {name: looks(path.read_text()) - EXEMPT.get(name, set()) for name, path in modules.items()}
    assert {name: what for name, what in found.items() if what} == {} and len(found) > 80
    assert looks("if path.exists(): pass") and looks("os.path.isdir(x)") and not looks("paths.exists(x), exists(x)")


def test_a_folder_that_takes_no_file_is_refused_before_the_work(bound, tmp_path):
    paths.check_writable(tmp_path / "new/cache")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DeniedError, match=f"cannot write to {tmp_path}/new/cache/: {tmp_path}/ lets this user"):
            paths.check_writable(tmp_path / "new/cache")
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())
