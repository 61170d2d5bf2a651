"""The cache contract: shards are plain HDF5, the manifest is strict, and no changed byte is read as a number."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import melcache
from cache import fingerprint, manifests, store
from cache.checks.verify import verify
from cache.names import PartName
from cache.sharing import push, tar
from cache.writing import checksums
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, adopt, columns_of
from common.errors import CacheError, NotFiniteError
from common.paths import find_cache

ROWS, BORDER = 7, 4
KEY = "ab" * 32


def part(name="entity.text", sizes=None, only=("sentence", "truncated")):
    return PartPlan(PartName(name), {"encoder": "a test"}, columns_of(name, sizes or {"D": 3}, "<f2", only))


def values(plan, rows, start=0):
    rng = np.random.default_rng(start)
    for column, (dtype, shape) in plan.columns.items():
        if dtype.startswith("|S"):
            yield column, np.array([f"row {start + i} é".encode() for i in range(rows)], dtype)
        else:
            yield (
                column,
                rng.integers(0, 2, (rows, *shape)).astype(dtype) if dtype == "|b1" else rng.normal(size=(rows, *shape)),
            )


def shard(plan, rows=BORDER, start=0, index=0, key=KEY):
    made = Shard(ShardPlan(plan, index, start, rows, key), lambda row: f"entity {row}")
    for column, array in values(plan, rows, start):
        made.put(column, np.arange(rows), array)
    return made


def about(name="test"):
    return {
        "dataset": {"name": name, "content": "0" * 64, "licence": "CC0", "source": "a test"},
        "tables": {"entity": ROWS, "mention": 2, "pair": 2},
        "candidates": 2,
        "splits": {"train": 1, "valid": 1, "test": 0},
        "coverage": {"mentions": 2},
        "warnings": [],
    }


def write_two_parts(folder, made="2026-01-01"):
    """A cache of two parts: entity.text in two shards, entity.ids in one."""
    draft = Draft(folder)
    draft.save(shard(part()))
    draft.save(shard(part(), ROWS - BORDER, BORDER, 1, "cd" * 32))
    draft.save(shard(part("entity.ids", {"id": 12, "name": 12}, ("id", "name", "image_status")), ROWS))
    draft.finish(about(), {"made": made})
    return folder


@pytest.fixture
def two_parts(tmp_path):
    return write_two_parts(tmp_path / "test")


def rewrite(folder, change):
    """Change the manifest, and seal it again so that only the structure can give it away."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")


def test_shards_are_plain_contiguous_hdf5_at_the_listed_offsets(two_parts):
    for entry in json.loads((two_parts / "manifest.json").read_text())["shards"]:
        data = (two_parts / entry["file"]).read_bytes()
        with h5py.File(two_parts / entry["file"]) as file:
            assert set(file) == set(entry["columns"])
            assert len(file.attrs) == 0 and file.userblock_size == 0
            for name, place in entry["columns"].items():
                column = file[name]
                assert column.chunks is None and column.compression is None and len(column.attrs) == 0
                assert column.id.get_offset() == place["offset"] and place["offset"] % 64 == 0
                raw = np.frombuffer(data, np.uint8, column.id.get_storage_size(), place["offset"])
                assert raw.tobytes() == np.asarray(column[:]).tobytes()


def test_reader_gives_what_h5py_gives_and_maps_single_shards(two_parts):
    reader = melcache.open(two_parts)
    files = [h5py.File(two_parts / s.file) for s in reader.manifest.shards if s.part == "entity.text"]
    np.testing.assert_array_equal(
        reader.column("entity.text.sentence"), np.concatenate([file["sentence"][:] for file in files])
    )
    assert reader.shape("entity.text.sentence") == (ROWS, 3)
    status = reader.column("entity.ids.image_status")
    assert not status.flags.writeable and not status.flags.owndata
    assert reader.strings("entity.ids.id")[6] == "row 6 é"
    copy = reader.read("entity.ids.image_status")
    copy[:] = 9
    assert (reader.column("entity.ids.image_status") == status).all()
    with pytest.raises(CacheError, match=r"no column 'entity\.text\.cls'.*entity\.text\.sentence"):
        reader.column("entity.text.cls")
    with pytest.raises(CacheError, match="in the schema but this cache was made without it"):
        reader.column("entity.text.pooler")


def test_building_twice_gives_the_same_bytes_and_the_id_leaves_out_provenance(tmp_path):
    first, second = write_two_parts(tmp_path / "a", "2026-01-01"), write_two_parts(tmp_path / "b", "2027-07-07")
    assert melcache.open(first).id == melcache.open(second).id
    for path in first.glob("*.h5"):
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert (first / "manifest.json").read_bytes() != (second / "manifest.json").read_bytes()


@pytest.mark.parametrize(("bad", "largest"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf"), (65520.0, "65520")])
def test_numbers_that_cannot_be_stored_are_refused_and_the_row_is_named(bad, largest):
    made = Shard(ShardPlan(part(), 0, 10, 3, KEY), lambda row: f"entity Q{row}")
    with pytest.raises(NotFiniteError, match=rf"entity\.text\.sentence of entity Q12 .*{largest}"):
        made.put("sentence", np.arange(3), np.array([[1, 2, 3], [4, 5, 6], [7, bad, 9]], np.float32))


def test_a_row_that_was_never_written_is_refused(tmp_path):
    made = Shard(ShardPlan(part(), 0, 0, 3, KEY), lambda row: f"entity {row}")
    made.put("sentence", [0, 2], np.zeros((2, 3)))
    with pytest.raises(CacheError, match=r"entity\.text\.sentence: entity 1 was never written"):
        made.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_adopt_takes_exactly_the_file_that_would_be_written(tmp_path):
    made = shard(part())
    entry = made.save(tmp_path)
    path = tmp_path / made.plan.file
    assert adopt(made.plan, tmp_path) == entry
    good = path.read_bytes()
    row_bytes = {"sentence": 6, "truncated": 1}
    inside = [range(span.offset, span.offset + BORDER * row_bytes[name]) for name, span in entry.columns.items()]
    outside = [at for at in range(len(good)) if not any(at in column for column in inside)]
    flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in outside[:: len(outside) // 33]]
    for bad in (good[:-1], good + b"\0", b"", *flipped):
        path.write_bytes(bad)
        assert adopt(made.plan, tmp_path) is None
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(good)
    path.symlink_to(tmp_path / "elsewhere")
    assert adopt(made.plan, tmp_path) is None


def test_the_first_of_two_extractors_wins_and_a_foreign_file_is_replaced(tmp_path):
    first, second = shard(part(), start=0), shard(part(), start=0)
    second.put("sentence", [0], np.ones((1, 3)))
    entry = first.save(tmp_path)
    assert second.save(tmp_path) == entry
    (tmp_path / first.plan.file).write_bytes(b"something else")
    assert second.save(tmp_path).sha256 != entry.sha256
    assert len(list(tmp_path.glob("*.h5"))) == 1


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
def test_a_failing_disk_is_one_line_and_leaves_no_file(tmp_path, monkeypatch, call):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, call, fail)
    with pytest.raises(CacheError, match=r"cannot write .*No space left on device.*same command again") as caught:
        store.publish(tmp_path / "a.h5", b"data", replace=False)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_not_called_a_failing_disk(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for write in (
        lambda: store.publish(tmp_path / "folder", b"data", replace=True),
        lambda: store.publish(tmp_path / "file/a.h5", b"data", replace=False),
        lambda: checksums.note(tmp_path / "file/b", "a.h5", "0" * 64),
    ):
        with pytest.raises(CacheError, match=r"(Is a|Not a|exists).* move what has that name out of the way"):
            write()


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(store.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    store.publish(tmp_path / "a.h5", b"0123456789", replace=False)
    assert (tmp_path / "a.h5").read_bytes() == b"0123456789"


def test_every_flipped_byte_of_the_manifest_is_noticed(two_parts):
    path = two_parts / "manifest.json"
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CacheError):
            melcache.open(two_parts)


def test_every_flipped_bit_of_a_shard_is_found_by_verify_and_none_reaches_a_column(two_parts):
    rng, files = random.Random(0), sorted(two_parts.glob("*.h5"))
    columns = {name: melcache.open(two_parts).read(name) for name in melcache.open(two_parts).columns}
    for _ in range(12):  # thousands: torture/machines/bit_rot.py
        path = rng.choice(files)
        good = path.read_bytes()
        bad, position = bytearray(good), rng.randrange(len(good))
        bad[position] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert [finding.file for finding in verify(two_parts) if finding.problem] == [path.name]
        reader = melcache.open(two_parts)
        for name, expected in columns.items():
            try:
                np.testing.assert_array_equal(reader.column(name), expected)
            except CacheError as error:
                assert path.name in str(error) and "melcache verify" in str(error)
        path.write_bytes(good)


def first_shard(content):
    return next(shard for shard in content["shards"] if shard["part"] == "entity.text")


ATTACKS = {
    "traversal": lambda m: first_shard(m).update(file="../" + first_shard(m)["file"]),
    "absolute": lambda m: first_shard(m).update(file="/etc/passwd"),
    "negative offset": lambda m: first_shard(m)["columns"]["sentence"].update(offset=-8),
    "offset outside": lambda m: first_shard(m)["columns"]["sentence"].update(offset=1 << 40),
    "huge offset": lambda m: first_shard(m)["columns"]["sentence"].update(offset=1 << 70),
    "overlap": lambda m: first_shard(m)["columns"]["truncated"].update(first_shard(m)["columns"]["sentence"]),
    "bool as int": lambda m: first_shard(m).update(rows=True),
    "float as int": lambda m: first_shard(m).update(rows=4.0),
    "zero rows": lambda m: first_shard(m).update(rows=0),
    "gap": lambda m: first_shard(m).update(start=1),
    "missing shard": lambda m: m["shards"].pop(1),
    "no shards": lambda m: m["shards"].clear(),
    "shard twice": lambda m: m["shards"].append(m["shards"][0]),
    "unknown part": lambda m: m["parts"].update({"entity.secret": m["parts"]["entity.text"]}),
    "unknown column": lambda m: m["parts"]["entity.text"]["columns"].update(evil={"dtype": "<f2", "shape": [3]}),
    "object dtype": lambda m: m["parts"]["entity.text"]["columns"]["sentence"].update(dtype="|O"),
    "huge shape": lambda m: m["parts"]["entity.text"]["columns"]["sentence"].update(shape=[1 << 24, 1 << 24, 1 << 24]),
    "negative shape": lambda m: m["parts"]["entity.text"]["columns"]["sentence"].update(shape=[-3]),
    "recipe changed": lambda m: m["parts"]["entity.text"]["recipe"].update(encoder="another"),
    "fingerprint of the wrong type": lambda m: m["parts"]["entity.text"].update(fingerprint=5),
    "columns of the wrong type": lambda m: m["parts"]["entity.text"].update(columns=[1]),
    "part of the wrong type": lambda m: m["parts"].update({"entity.text": 7}),
    "parts of the wrong type": lambda m: m.update(parts=[]),
    "shard of the wrong type": lambda m: m["shards"].insert(0, None),
    "place of the wrong type": lambda m: first_shard(m)["columns"].update(sentence=3),
    "part name of the wrong type": lambda m: first_shard(m).update(part=["entity.text"]),
    "control characters": lambda m: m["dataset"].update(name="a\x1b[31m"),
    "extra field": lambda m: m.update(extra=1),
    "missing field": lambda m: m.pop("tables"),
    "tables of the wrong type": lambda m: m.update(tables={"entity": "7", "mention": 2, "pair": 2}),
    "empty table": lambda m: m["tables"].update(mention=0),
    "next version": lambda m: m.update(version=2),
    "version as text": lambda m: m.update(version="1"),
    "another dtype than the schema's": lambda m: m["parts"]["entity.text"]["columns"]["truncated"].update(dtype="|u1"),
    "seconds as text": lambda m: m["provenance"].update(seconds="x"),
    "another format": lambda m: m.update(format="zip"),
    "key of another shard": lambda m: first_shard(m).update(key="ff" * 32),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_manifest_is_refused_with_a_cache_error(two_parts, attack):
    rewrite(two_parts, ATTACKS[attack])
    with pytest.raises(CacheError):
        melcache.open(two_parts)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"format":"melcache"}',
    ],
)
def test_what_is_not_a_manifest_is_refused_with_a_cache_error(two_parts, text):
    (two_parts / "manifest.json").write_bytes(text)
    with pytest.raises(CacheError):
        melcache.open(two_parts)


def test_an_infinite_number_in_a_whole_manifest_is_refused(two_parts):
    path = two_parts / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"min":0', b'"min":1e999', 1))
    with pytest.raises(CacheError, match="1e999 is not a finite number"):
        melcache.open(two_parts)


def test_an_honest_rewrite_opens(two_parts):
    rewrite(two_parts, lambda m: m["dataset"].update(name="renamed"))  # else the attacks above prove nothing
    assert melcache.open(two_parts).manifest.dataset.name == "renamed"


def test_files_that_are_short_missing_or_links_are_refused(two_parts):
    path = sorted(two_parts.glob("entity.text-00000*"))[0]
    good = path.read_bytes()
    path.write_bytes(good[:-5])
    with pytest.raises(CacheError, match=r"bytes, the manifest says .*copied only in part\? Run: melcache verify"):
        melcache.open(two_parts)
    path.unlink()
    with pytest.raises(CacheError, match="cannot be opened"):
        melcache.open(two_parts)
    (two_parts / "other").write_bytes(good)
    path.symlink_to(two_parts / "other")
    with pytest.raises(CacheError):
        melcache.open(two_parts).column("entity.text.sentence")


def test_draft_reads_rows_across_shards(tmp_path):
    draft = Draft(tmp_path)
    whole = []
    for index, (start, rows) in enumerate([(0, 4), (4, 3)]):
        made = shard(part(), rows, start, index)
        whole.append(made.get("sentence", np.arange(rows)).copy())
        draft.save(made)
    wanted = np.array([6, 0, 4, 3, 0])
    np.testing.assert_array_equal(draft.rows("entity.text.sentence", wanted), np.concatenate(whole)[wanted])
    np.testing.assert_array_equal(draft.column("entity.text.sentence"), np.concatenate(whole))


def test_opening_a_cache_needs_neither_hdf5_nor_torch():
    code = "import sys, cache; assert not {'h5py', 'torch'} & set(sys.modules), sorted(sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=600).returncode == 0


def test_a_cache_is_found_by_path_or_by_name(two_parts, tmp_path):
    assert find_cache(two_parts) == two_parts
    assert find_cache("test", tmp_path) == two_parts
    with pytest.raises(
        CacheError,
        match=r"No cache for 'nothing' in .*Make it with: melcache extract .* --name nothing",
    ):
        find_cache("nothing", tmp_path)
    (two_parts / "manifest.json").unlink()
    with pytest.raises(CacheError, match="extraction or pull has not finished"):
        find_cache("test", tmp_path)


def test_a_listed_shard_that_was_damaged_is_not_adopted_again(two_parts):
    entry = manifests.load(two_parts).shards[-2]
    plan = ShardPlan(part(), 0, 0, BORDER, KEY)
    path = two_parts / plan.file
    data = bytearray(path.read_bytes())
    assert Draft(two_parts).adopt(plan)
    data[entry.columns["sentence"].offset] ^= 1
    path.write_bytes(data)
    assert adopt(plan, two_parts) is not None  # the structure alone cannot tell
    assert not Draft(two_parts).adopt(plan)
    assert not path.exists()


def flipped(path, entry):
    """Change one bit of a number in a shard; its layout stays."""
    data = bytearray(path.read_bytes())
    data[entry.columns["sentence"].offset] ^= 1
    path.write_bytes(data)


def notes(folder):
    return sorted(path.name for path in folder.iterdir() if checksums.NAME.fullmatch(path.name))


def test_a_shard_that_was_damaged_before_a_manifest_lists_it_is_made_again(tmp_path):
    made = shard(part())
    entry = made.save(tmp_path)
    good = (tmp_path / made.plan.file).read_bytes()
    assert Draft(tmp_path).adopt(made.plan)
    flipped(tmp_path / made.plan.file, entry)
    assert adopt(made.plan, tmp_path) is not None and not Draft(tmp_path).has(made.plan)
    assert made.save(tmp_path) == entry  # an extractor that has not looked takes no damaged file for another's
    assert (tmp_path / made.plan.file).read_bytes() == good
    flipped(tmp_path / made.plan.file, entry)
    assert not Draft(tmp_path).adopt(made.plan) and not (tmp_path / made.plan.file).exists()


def test_a_shard_without_its_checksum_is_made_again(tmp_path):
    made = shard(part())
    made.save(tmp_path)
    (tmp_path / notes(tmp_path)[0]).unlink()
    assert not Draft(tmp_path).adopt(made.plan)


def test_of_two_extractors_with_other_bytes_each_leaves_its_checksum(tmp_path):
    first, second = shard(part()), shard(part())
    second.put("sentence", [0], np.ones((1, 3)))
    entry = first.save(tmp_path)
    assert second.save(tmp_path) == entry and len(notes(tmp_path)) == 2
    assert Draft(tmp_path).adopt(first.plan)


def test_a_finished_cache_holds_its_files_and_no_checksums(two_parts):
    assert notes(two_parts) == []
    files = {entry.file for entry in manifests.load(two_parts).shards}
    assert {path.name for path in two_parts.iterdir()} == files | {"manifest.json"}


def test_a_damaged_manifest_still_tells_which_shards_are_whole(two_parts):
    damaged = next(entry for entry in manifests.load(two_parts).shards if entry.start == BORDER)
    path = two_parts / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"a test", b"b test"))
    flipped(two_parts / damaged.file, damaged)
    draft = Draft(two_parts)
    assert draft.before is None
    assert draft.adopt(ShardPlan(part(), 0, 0, BORDER, KEY))
    assert not draft.adopt(ShardPlan(part(), 1, BORDER, ROWS - BORDER, "cd" * 32))


def test_shards_of_a_cache_that_another_one_replaces_keep_their_checksums(two_parts):
    plan = ShardPlan(part(), 0, 0, BORDER, KEY)
    draft = Draft(two_parts)
    draft.save(shard(part(), ROWS, key="ef" * 32))
    draft.save(shard(part("entity.ids", {"id": 12, "name": 12}, ("id", "name", "image_status")), ROWS))
    draft.finish(about(), {})
    assert plan.file not in {entry.file for entry in manifests.load(two_parts).shards}
    assert len(notes(two_parts)) == 2 and Draft(two_parts).adopt(plan)


def test_checksums_beside_a_cache_go_nowhere(two_parts, tmp_path):
    before = [*verify(two_parts)]
    checksums.note(two_parts, before[0].file, "a" * 64)
    checksums.note(two_parts, "entity.text-00009.0123456789ab.h5", "a" * 64)
    assert [*verify(two_parts)] == before
    push.push(two_parts, str(tmp_path / "remote"))
    tar.export(two_parts, tmp_path / "x.tar")
    tar.take(tmp_path / "x.tar", tmp_path / "taken")
    for place in (tmp_path / "remote", tmp_path / "taken"):
        assert notes(place) == [] and melcache.open(place).id == melcache.open(two_parts).id


def test_what_another_extractor_finishes_meanwhile_is_taken(tmp_path):
    late = Draft(tmp_path)  # sees no manifest
    write_two_parts(tmp_path)
    assert notes(tmp_path) == [] and late.adopt(ShardPlan(part(), 0, 0, BORDER, KEY))


def test_a_file_larger_than_the_shard_is_not_read(tmp_path, monkeypatch):
    made = shard(part())
    made.save(tmp_path)
    os.truncate(tmp_path / made.plan.file, 1 << 40)
    monkeypatch.setattr(store, "read_regular", None)
    assert adopt(made.plan, tmp_path) is None


def test_a_shard_that_holds_infinity_is_not_adopted(tmp_path):
    made = shard(part())
    entry = made.save(tmp_path)
    path = tmp_path / made.plan.file
    data, place = bytearray(path.read_bytes()), entry.columns["sentence"].offset
    data[place : place + 2] = np.float16(np.inf).tobytes()
    path.write_bytes(data)
    assert adopt(made.plan, tmp_path) is None
