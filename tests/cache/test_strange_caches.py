"""A stranger's cache whose hashes fit: what its values, widths and files may not be is one line, for every command."""

import errno
import hashlib
import json
import os
import re
import shutil

import numpy as np
import pytest
import xxhash
from typer.testing import CliRunner

import cache.cli
import melcache
import train.cli
from cache import fingerprint, manifests, reader, store
from cache.store import lacking
from common import memory
from common.errors import CacheError
from tests.worlds import synthetic_cache
from torture.tiny_cache import no_gate

ROWS, ENTITIES, PLACES = 60, 40, 5


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return synthetic_cache(tmp_path_factory.mktemp("honest") / "toy", heads="drin,prior,mel_hi")


@pytest.fixture
def toy(honest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(honest, tmp_path / "shards/toy")


def sealed(folder, change):
    """Change a parsed manifest and seal it anew."""
    content = json.loads((folder / manifests.NAME).read_text())
    change(content)
    (folder / manifests.NAME).write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")


def forged(folder, values):
    """Replace columns, by what a function makes of them, and every hash of them."""

    def change(content):
        for shard in content["shards"]:
            path, columns = folder / shard["file"], content["parts"][shard["part"]]["columns"]
            data = bytearray(path.read_bytes())
            for column, place in shard["columns"].items():
                if (name := f"{shard['part']}.{column}") in values:
                    shape = (shard["rows"], *columns[column]["shape"])
                    held = np.frombuffer(data, columns[column]["dtype"], int(np.prod(shape)), place["offset"])
                    new = values[name](held.reshape(shape).copy()).tobytes()
                    data[place["offset"] : place["offset"] + len(new)] = new
                    place["xxh3"] = xxhash.xxh3_128_hexdigest(new)
            path.write_bytes(data)
            shard["sha256"] = hashlib.sha256(data).hexdigest()

    sealed(folder, change)


def at(row, value):
    def change(rows):
        rows[row] = value
        return rows

    return change


def said(app, *arguments):
    """The one line with which a command ends, "" where it ends well; anything else fails."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is None:
        return ""
    assert isinstance(done.exception, SystemExit), done.exception
    text = done.stderr.removeprefix("error: ").strip()
    assert text and "\n" not in text
    return text


def trained(model, *more):
    quick = ("--device", "cpu", "--epochs", "1", "--fresh", "--run", "runs/one")
    return said(train.cli.app, "--dataset", "toy", "--model", model, *quick, *more)


@pytest.mark.parametrize(
    ("values", "model", "message"),
    [
        ({"pair.candidates.gold": at(3, 99)}, "lexical", "candidates.gold of .* holds 99 in row 3, expected -2 to 4"),
        ({"pair.candidates.gold": at(3, -7)}, "lexical", "candidates.gold of .* holds -7 in row 3, expected -2 to 4"),
        (
            {"pair.candidates.candidates": at((3, 1), 40)},
            "drin",
            "candidates of .* holds 40 in row 3, expected -1 to 39",
        ),
        ({"pair.candidates.candidates": at(3, -2)}, "lexical", "candidates of .* holds -2 in row 3, expected -1 to 39"),
        ({"mention.ids.gold": at(3, 40)}, "prior", "mention.ids.gold of .* holds 40 in row 3, expected -2 to 39"),
        ({"mention.ids.gold": at(3, -3)}, "prior", "mention.ids.gold of .* holds -3 in row 3, expected -2 to 39"),
        ({"mention.ids.splits": at(3, 8)}, "lexical", "mention.ids.splits of .* holds 8 in row 3, expected 0 to 7"),
        ({"mention.image.present": lambda rows: rows.view("u1") + 1}, "drin", "present of .* holds 2 in row 0"),
        ({"pair.candidates.lexical": at(3, 1e30)}, "lexical", r"lexical of .* holds 1e\+30 in row 3, expected 0 to 1"),
        ({"pair.alignment.text_to_text": at(3, 7)}, "drin", "text_to_text of .* holds 7 in row 3"),
        ({"mention.tokens.first": at(3, 1 << 30)}, "mel_hi", "mention.tokens points outside"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(toy, values, model, message):
    forged(toy, values)
    assert re.search(message, trained(model))


def test_an_honest_cache_is_read(toy):
    assert trained("lexical") == trained("prior") == ""


@pytest.mark.parametrize("model", ["lexical", "prior"])
def test_a_gold_on_padding_is_not_retrieved_but_refused(toy, model):
    """It scored as a hit among the others: padding has a string score, too."""
    forged(toy, {"pair.candidates.candidates": at((slice(None), 0), -1), "pair.candidates.gold": lambda rows: rows * 0})
    assert re.search(r"candidates\.gold of .* holds 0 in row 0, which is padding", trained(model))


def test_a_gold_that_is_another_entity_than_the_mentions_is_refused(toy):
    forged(toy, {"pair.candidates.gold": lambda rows: (rows + 1) % PLACES})
    assert re.search(r"in row 0, which is entity \d+, and mention\.ids\.gold is \d+", trained("prior"))


def test_lists_without_a_candidate_are_one_line_for_every_head_and_its_costs(toy):
    forged(
        toy,
        {"pair.candidates.candidates": lambda rows: rows * 0 - 1, "pair.candidates.gold": lambda rows: rows * 0 - 1},
    )
    for found in (trained("drin"), said(train.cli.app, "costs", "--dataset", "toy")):
        assert "has no mention to use in its train split: none of its mentions has gold and another candidate" in found


# --- what a manifest may not say


def no_parts(content):
    content["parts"].clear()
    content["shards"].clear()


def no_columns(content):
    part = content["parts"]["mention.text"]
    part["columns"].clear()
    for shard in content["shards"]:
        if shard["part"] == "mention.text":
            shard["columns"].clear()


def other_width(content):
    """entity.text as wide as half its bytes, as a cache that was put together of two has it."""
    content["parts"]["entity.text"]["columns"]["sentence"]["shape"] = [4]


STRUCTURES = {
    no_parts: "field 'parts' is not what the format allows",
    no_columns: "part 'mention.text' has no column",
    other_width: r"mention\.text\.sentence has D = 8, and entity\.text\.sentence has 4: parts of different caches\?",
}
COMMANDS = (
    ("info", "toy"),
    ("card", "toy"),
    ("gc", "toy"),
    ("verify", "toy"),
    ("diff", "toy", "good"),
    ("diff", "good", "toy"),
    ("export", "toy", "toy.tar"),
    ("push", "toy", "remote"),
    ("pull", "elsewhere/toy", "shards/toy"),
)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.__name__)
def test_what_no_extraction_writes_is_one_line_for_every_command(toy, structure):
    shutil.copytree(toy, toy.parent / "good")
    sealed(toy, structure)
    trains = [("--model", "drin", "--dataset", "toy"), *((name, "--dataset", "toy") for name in ("doctor", "costs"))]
    found = [said(cache.cli.app, *command) for command in COMMANDS] + [said(train.cli.app, *each) for each in trains]
    assert all(re.search(STRUCTURES[structure], line) for line in found), found


def test_a_name_of_300_letters_is_as_good_as_any(toy):
    name = "n" * 300
    sealed(toy, lambda content: content["dataset"].update(name=name))
    shutil.copytree(toy, toy.parent / "good")
    with no_gate():
        lines = [said(cache.cli.app, *command) for command in COMMANDS if command[0] != "verify"]
        lines += [trained("lexical"), said(cache.cli.app, "import", "toy.tar", "--from", "tar")]
    assert [line for line in lines if line] == [
        f"the tar holds a cache of {name!r}, which names no directory: give --name"
    ]


# --- files and columns larger than memory


def test_a_file_of_holes_is_one_line_for_all_that_would_read_it(toy, monkeypatch):
    monkeypatch.setattr(store, "HOLLOW", 1 << 20)
    shutil.copytree(toy, toy.parent / "good")

    def grow(content):
        shard = content["shards"][0]
        shard["bytes"] = 1 << 32
        os.truncate(toy / shard["file"], 1 << 32)

    sealed(toy, grow)
    readers = [command for command in COMMANDS if command[0] in ("diff", "export", "push")]
    found = [said(cache.cli.app, *command) for command in readers] + [trained("lexical")]
    assert all("has 4,294,967,296 bytes, but almost none of them are on the disk" in line for line in found)
    done = CliRunner().invoke(cache.cli.app, ["verify", "toy"])
    assert done.exit_code == 1 and "a sparse file" in done.stdout


def test_a_file_that_is_all_there_is_no_hole(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "HOLLOW", 1 << 20)
    (tmp_path / "full").write_bytes(b"x" * (1 << 20))
    with store.open_shard(tmp_path / "full") as descriptor:
        assert os.read(descriptor, 1) == b"x"


def test_columns_larger_than_the_free_memory_are_refused_before_any_is_taken(toy, monkeypatch):
    monkeypatch.setattr(reader, "LITTLE", 0)
    monkeypatch.setattr(memory, "free", lambda: 100)
    monkeypatch.setattr(np, "empty", None)
    with pytest.raises(
        CacheError, match=r"entity\.text\.sentence have 640 B, more than the 100 B of memory that are free"
    ):
        melcache.open(toy).read("entity.text.sentence")


@pytest.mark.parametrize("way", ["load", "pieces"])
def test_a_disk_that_fails_under_either_way_of_reading_is_one_line(toy, monkeypatch, way):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    opened = melcache.open(toy)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CacheError, match=r"^cannot read .*entity\.text.*: Input/output error$"):
        opened.load(["entity.text.sentence"]) if way == "load" else opened.pieces("entity.text.sentence")


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOMEM, "-v"), (errno.EMFILE, "-n")])
def test_a_limit_that_a_map_meets_is_named(toy, monkeypatch, number, advice):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    opened = melcache.open(toy)
    monkeypatch.setattr(lacking, "mapped", fail)
    with pytest.raises(CacheError, match=rf"cannot map .*: {os.strerror(number)}\. Raise ulimit {advice}$"):
        opened.column("entity.text.sentence")
