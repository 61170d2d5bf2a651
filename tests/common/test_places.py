"""Places as users write them: what is expanded, and what only looks like a place and must not become a folder here."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import melcache
from cache import remotes
from cache.cli import app
from cache.sharing import pull, push
from common import places
from common.errors import CacheError, ConfigError
from common.paths import MANIFEST, Place, find_cache
from extract.cli import app as extraction
from extract.config import ExtractConfig
from train.cli import app as training

TAKEN = {  # as written: what it is, for the cache toy with /home/me at home
    "team/toy": "team/toy",
    "../team/{name}": "../team/toy",
    "/mnt/my data/x": "/mnt/my data/x",
    "./a:b": "./a:b",
    "dir/s3:/x": "dir/s3:/x",
    ".": ".",
    "~": "/home/me",
    "~/team/{name}": "/home/me/team/toy",
    "file:///mnt/a%20b": "/mnt/a b",
    "file://localhost/mnt/{name}": "/mnt/toy",
    "FILE:///mnt": "/mnt",
    "s3://team": "s3://team",
    "S3://team/{name}/": "s3://team/toy/",
    "gs://team/caches/toy": "gs://team/caches/toy",
    "hf://datasets/org/{name}@main/v1": "hf://datasets/org/toy@main/v1",
}
REFUSED = {
    "": "'' names no place: .* Is a variable empty, or not set",
    " ": "names no place",
    "\n": "names no place",
    " s3://team/x": "begins or ends with a blank",
    "team/toy\n": "begins or ends with a blank",
    "team/\x1b[31m": "control character",
    "$TEAM/toy": "variable that no shell has replaced",
    "${TEAM}": "variable that no shell has replaced",
    "s3:/team/x": "did you mean 's3://team/x'",
    "s3:team/x": "did you mean 's3://team/x'",
    "s3//team/x": "did you mean 's3://team/x'",
    "S3:/team": "did you mean 's3://team'",
    "hf:datasets/org/name": "did you mean 'hf://datasets/org/name'",
    "file:/mnt/x": "did you mean 'file:///mnt/x'",
    "s3:/key:hunter2@team/x": "did you mean",
    "user@host:dir": "looks like an address of ssh",
    "host:/dir": "looks like an address of ssh",
    "C:\\team\\x": "is a path of Windows",
    "C:/team": "is a path of Windows",
    "\\\\server\\team": "is a path of Windows",
    "team\\x": "is a path of Windows",
    "//server/team": "names another machine",
    "huggingface.co/datasets/org/name": "names another machine",
    "team.s3.amazonaws.com/x": "names another machine",
    "http://host/x": "http:// is none of",
    "https://huggingface.co/datasets/org/name": "https:// is none of",
    "ssh://host/x": "ssh:// is none of",
    "https://user:hunter2@host/x": "user, a password",
    "user:hunter2@host:dir": "looks like an address",
    "file://": "names no directory here",
    "file:///": "names no directory here",
    "file://host/dir": "names no directory here",
    "s3://": "part that is empty",
    "s3:///team/x": "part that is empty",
    "s3://team//x": "part that is empty",
    "s3://team/../x": "part that is empty",
    "s3://te am/x": "holds a blank",
    "s3://[team/x?y": "put credentials where",
    "team/{dataset}": r"\{dataset\} stands for nothing; only \{name\} does",
    "s3://team/{}": r"\{\} stands for nothing",
    "team/{name": r"\{name stands for nothing",
    "team/name}": r"\} stands for nothing",
    "~nobody-here/x": "no such home directory",
}


@pytest.mark.parametrize("given", TAKEN)
def test_a_place_is_expanded_once_and_read_again_it_is_the_same(given, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert places.remote(given, "toy") == places.remote(places.remote(given, "toy")) == TAKEN[given]


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_almost_a_place_is_refused_in_a_line_without_secrets(given, monkeypatch, tmp_path):
    monkeypatch.setenv("MELCACHE_REMOTE", given)
    for asked in (lambda: places.remote(given, "toy"), lambda: remotes.open(given, "toy"), from_environment):
        if asked is from_environment and not given:
            assert asked() == ""  # an empty one there is none
            continue
        with pytest.raises(ConfigError, match=REFUSED[given]) as caught:
            asked()
        assert "hunter2" not in str(caught.value) and str(caught.value).isprintable()


def from_environment():
    return ExtractConfig(dataset="jsonl", name="toy").url


def test_a_file_here_is_no_url_and_may_hold_a_colon(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert [str(places.local(given)) for given in ("~/x.tar", "a:b.tar", "my data")] == [
        "/home/me/x.tar",
        "a:b.tar",
        "my data",
    ]
    for given, message in (
        ("", "names no place"),
        ("s3://team/x", "is a URL"),
        ("s3:/team", "did you mean"),
        ("me@host:x.tar", "looks like an address of ssh"),
    ):
        with pytest.raises(ConfigError, match=message):
            places.local(given)


@pytest.fixture
def toy(toy_cache, tmp_path, monkeypatch):
    """A cache shards/toy in the working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(toy_cache, tmp_path / "shards/toy")


def test_no_command_takes_an_empty_place_or_an_almost_url(toy, tmp_path):
    remote = tmp_path / "team"
    push.push(toy, str(remote))
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ["push", "toy", "?"],
        ["push", "?", str(remote)],
        ["pull", "toy", "?"],
        ["pull", "?", str(remote)],
        ["pull", "other", str(remote), "--require-signed", "--signers", "?"],
        ["export", "toy", "?"],
        ["export", "?", "x.tar"],
        ["import", "--from", "tar", "?"],
        ["import", "--from", "drin", "?", "--name", "x"],
        ["gc", "?", "--delete"],
        ["info", "?"],
        ["verify", "?"],
        ["card", "?"],
        ["sign", "?"],
        ["sign", "toy", "--key", "?"],
        ["synth", "?"],
        ["diff", "toy", "?"],
    ):
        for given in ("", " ", "s3:/team/x", "https://host/x"):
            result = CliRunner().invoke(app, [given if word == "?" else word for word in command])
            told = (result.exit_code, result.stderr.startswith("error: "), result.stderr.count("\n"))
            assert told == (2, True, 1), (command, given, result.output)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("given", ["", " ", "s3:/team/x", "https://host/x", "me@host:x"])
def test_no_option_of_extract_and_train_takes_them_either(given, toy, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for command, words in (
        (extraction, ["--dataset", "demo", "--shards", given]),
        (extraction, ["--dataset", "jsonl", "--data", given]),
        (extraction, ["--dataset", "demo", "--descriptions", given]),
        (training, ["--dataset", "toy", "--model", "lexical", "--run", given]),
        (training, ["--dataset", "toy", "--model", "lexical", "--shards", given]),
        (training, ["--dataset", given, "--model", "lexical"]),
        (training, ["slices", "--run", given]),
    ):
        result = CliRunner().invoke(command, words)
        told = result.stderr
        assert result.exit_code and told.replace("error: ", "").startswith(("'", '"')), (words, told)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("here", [".", "..", "toy/"])
def test_the_advice_where_no_cache_is_names_a_dataset(here, tmp_path, monkeypatch):
    (tmp_path / "wiki/toy").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "wiki/toy" if here == ".." else tmp_path / "wiki")
    own = "toy" if here == "toy/" else "wiki"
    with pytest.raises(CacheError, match=f"melcache extract --dataset jsonl --data FOLDER --name {own},"):
        find_cache(here)


def test_the_advice_names_a_release_that_there_is_as_it_is(tmp_path):
    with pytest.raises(CacheError, match=r"Make it with: melcache extract --dataset wikimel$"):
        find_cache("wikimel", tmp_path)


def test_a_place_is_a_path_or_a_name_under_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {folder: tmp_path / folder for folder in ("shards/finished", "finished", "shards/begun", "begun", "here")}
    for folder in made.values():
        folder.mkdir(parents=True)
    for folder in ("shards/finished", "here"):
        (made[folder] / MANIFEST).touch()
    new = {"toy": "shards/toy", "begun": "shards/begun", "here": "here", "a/toy": "a/toy", "./toy": "toy", "..": ".."}
    assert {written: str(Place(written).new()) for written in new} == new
    assert [str(Place(written).cache()) for written in ("here", "finished")] == ["here", "shards/finished"]
    unfinished = {"begun": "begun", "finished": "shards/finished", "here": "here"}
    assert {written: str(Place(written).unfinished()) for written in unfinished} == unfinished
    for written in ("begun", "toy"):
        with pytest.raises(CacheError, match=r"begun/ has no manifest\.json|^No cache for 'toy' in shards/"):
            Place(written).cache()
    with pytest.raises(CacheError, match=r"^No cache for 'toy' in there/"):
        Place("toy", Path("there")).unfinished()


def test_the_name_stands_for_the_caches_in_push_and_pull(toy, tmp_path):
    assert push.push(toy, "team/{name}").url == "team/toy"
    assert pull.pull(tmp_path / "here/toy", f"file://{tmp_path}/team/{{name}}").id == melcache.open(toy).id
    assert not list(tmp_path.glob("team/*{*"))
