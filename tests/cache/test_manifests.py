"""A manifest as types: the bytes that are written are those of its JSON, whatever it holds."""

import json
from dataclasses import FrozenInstanceError

import pytest

from cache import fingerprint, manifests
from cache.manifests import Manifest
from cache.names import PartName

RECIPE = {"encoder": {"name": "é", "layers": [1, 2.5, None, True]}, "format": 1}
IDS = {"recipe": {"columns": {}}, "inputs": {}, "columns": {"id": {"dtype": "|S4", "shape": []}}}
TEXTS = {"recipe": RECIPE, "inputs": {"entity.ids": "ab" * 32}, "columns": {"sentence": {"dtype": "<f2", "shape": [3]}}}


def shard(part, column, start, rows, low):
    place = {"offset": 2048, "xxh3": "0" * 32, "min": low, "max": low}
    return {
        "part": part,
        "file": f"{part}-{start:05d}.{'c' * 12}.h5",
        "start": start,
        "rows": rows,
        "bytes": 4096,
        "sha256": "d" * 64,
        "key": "c" * 64,
        "columns": {column: place},
    }


def content():
    """A manifest with all that one may hold."""
    parts = {
        name: part | {"fingerprint": fingerprint.digest({"recipe": part["recipe"], "inputs": part["inputs"]})}
        for name, part in (("entity.text", TEXTS), ("entity.ids", IDS))
    }
    return {
        "format": "melcache",
        "version": 1,
        "dataset": {"name": "tiny", "content": "e" * 64, "licence": "CC0", "source": "a test"},
        "tables": {"entity": 3, "mention": 2, "pair": 2},
        "candidates": 2,
        "splits": {"train": 2},
        "coverage": {"mentions": 2, "entity images: ok": 0},
        "warnings": ["one", "another"],
        "parts": parts,
        "shards": [
            shard("entity.ids", "id", 0, 3, None),
            shard("entity.text", "sentence", 0, 2, -1.5),
            shard("entity.text", "sentence", 2, 1, 7),
        ],
        "generations": [[2, 1], [3, 2]],
        "provenance": {
            "made": "2026-01-01",
            "seconds": 1.5,
            "parts": {"entity.text": {"seconds": 3, "rows": 6}},
            "packages": {"numpy": "2"},
            "odd": [None, {"a": [0.1]}],
            "of": "f" * 64,
        },
    }


def without(*fields):
    return {name: value for name, value in content().items() if name not in fields}


@pytest.mark.parametrize(
    "found", [content(), without("generations"), content() | {"provenance": {}, "generations": [[3, 2]]}]
)
def test_what_is_read_is_written_byte_for_byte_and_in_its_order(found):
    data = manifests.written(manifests.seal(found))
    manifest = manifests.read(data, "here")
    assert manifests.written(manifest.as_json()) == data
    assert json.dumps(manifest.as_json()) == json.dumps(json.loads(data))  # what info --json shows
    assert manifest == Manifest.of(json.loads(data))


def test_id_and_digest_are_what_they_were():
    sealed = manifests.seal(content())
    assert sealed["id"] == "bd3ed029fe453af2698bba4e0bda7829b54a6895e0411fb4cb23950361048897"
    assert sealed["digest"] == "585f0bd1d21d9a8f7e207637157f3b1cba780aa16f9b2b99d58be400109051aa"


def test_a_manifest_says_what_its_json_does():
    manifest = manifests.read(manifests.written(manifests.seal(content())), "here")
    assert manifest.columns == ["entity.ids.id", "entity.text.sentence"] and manifest.bytes == 3 * 4096
    assert [(entry.start, entry.stop) for entry in manifest.shards_of("entity.text")] == [(0, 2), (2, 3)]
    assert manifest.column("entity.text.sentence").row_bytes == 6 and manifest.column("entity.ids.id").row_bytes == 4
    assert (
        manifest.column("entity.text.mean") is manifest.column("mention.text.sentence") is manifest.column("x") is None
    )
    assert all(type(entry.part) is PartName for entry in manifest.shards)
    made = manifest.provenance
    assert (made.made, made.seconds, made.whole_id) == ("2026-01-01", 1.5, "f" * 64)
    assert (made.seconds_of("entity.text", 4), made.seconds_of("entity.ids", 4)) == (2.0, None)
    other = manifests.read(manifests.written(manifests.seal(content() | {"provenance": {}})), "here").provenance
    assert (other.made, other.seconds, other.whole_id) == ("at an unknown time", 0, None)


def test_nothing_of_a_manifest_can_be_changed():
    found = Manifest.of(manifests.seal(content()))
    for thing, field in (
        (found, "id"),
        (found.dataset, "name"),
        (found.shards[0], "file"),
        (found.provenance, "noted"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, field, "")
