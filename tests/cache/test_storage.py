"""Vectors as int8 and int4 codes: their error, their bytes, what reads them, and what is refused."""

import json
import math
import re
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import melcache
from cache import bounds, fingerprint, manifests, quantized
from cache.checks import diff, gc, hdf5_gate
from cache.checks.verify import verify
from cache.cli import app
from cache.kinds import KINDS, quantizable
from cache.names import PartName
from cache.quantized import Quantized, decode, encode
from cache.sharing import card, pull, push, tar
from cache.writing import synth, synth_columns
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, adopt, columns_of
from common.errors import CacheError, NotFiniteError
from tests.copies import is_copy

ROOT = Path(__file__).parents[2]
LEVELS = {"int8": 127, "int4": 7}
HEADS = "ghmfc,dwe"
CODED = ("joint_token.joint.vector", "mention.crops.vector", "mention.regions.vector", "token.text.vector")
KEY = "ab" * 32


def single(value):
    """The float32 next to a number."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def by_hand(vector, levels):
    """Codes and scale of one vector, a number at a time: numbers of 17 bits come from frexp."""
    mantissa, exponent = math.frexp(single(max(map(abs, vector), default=0.0) / levels))
    scale = math.ldexp(math.floor(mantissa * 2**17 + 0.5), exponent - 17)
    if scale < 2.0**-126:
        return [0] * len(vector), 0.0
    return [round(single(number / scale)) for number in vector], scale


def unpacked(row, width):
    """The int4 codes of one vector's bytes: lower four bits first, then the upper ones; 8 to 15 are negative."""
    nibbles = [byte % 16 for byte in row] + [byte // 16 for byte in row]
    return [n - 16 if n > 7 else n for n in nibbles][:width]


def vectors_of(width):
    """Vectors of every size of number that float32 has, with zeros of both signs."""
    rng = np.random.default_rng(width)
    found = rng.standard_normal((40, width)) * 10.0 ** rng.integers(-34, 37, (40, 1))
    found[rng.random(found.shape) < 0.2] = -0.0
    return found.astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_codes_and_scales_are_those_of_a_loop_over_numbers(kind, width):
    vectors = vectors_of(width)
    codes, scales = encode(vectors, kind)
    read = decode(codes, scales, width)
    assert codes.shape == (40, width if kind == "int8" else (width + 1) // 2) and read.dtype == np.float32
    for vector, row, scale, found in zip(vectors.tolist(), codes.tolist(), scales.tolist(), read.tolist(), strict=True):
        expected, step = by_hand(vector, LEVELS[kind])
        assert (row if kind == "int8" else unpacked(row, width)) == expected
        assert scale == step
        assert found == [code * step for code in expected]  # in float64: float32 has rounded nothing
        assert all(abs(x - y) <= step / 2 * (1 + 2**-15) for x, y in zip(vector, found, strict=True))
        assert not any(y for x, y in zip(vector, found, strict=True) if not x)


def test_int4_lies_two_to_a_byte_as_the_format_says():
    codes, scales = encode(np.array([[7, -7, 1], [-1, 0, 3.5]], np.float32), "int4")
    assert codes.tolist() == [[0x17, 0x09], [0x7E, 0x00]] and codes.dtype == np.uint8
    assert scales.tolist() == [1, 0.5]


def test_the_function_of_the_format_document_reads_codes():
    [code] = re.findall(r"```python\n(def decode.*?)```", (ROOT / "FORMAT.md").read_text(), re.DOTALL)
    known = {"np": np}
    exec(code, known)
    for kind in LEVELS:
        codes, scales = encode(vectors_of(9), kind)
        assert known["decode"](codes, scales, 9).tobytes() == decode(codes, scales, 9).tobytes()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_what_was_read_is_stored_as_the_codes_that_it_was_read_from(kind):
    codes, scales = encode(vectors_of(9), kind)
    again = encode(decode(codes, scales, 9), kind)
    assert again[0].tobytes() == codes.tobytes() and again[1].tobytes() == scales.tobytes()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_vectors_at_the_ends_of_float32(kind):
    most = np.finfo(np.float32).max
    ends = np.array([[0, -0.0], [most, -most], [1e-45, -1e-40], [65504, 6e-8]], np.float32)
    codes, scales = encode(ends, kind)
    read = decode(codes, scales, 2)
    assert not read[[0, 2]].any() and not np.signbit(read[[0, 2]]).any() and not scales[[0, 2]].any()
    assert np.isfinite(read).all() and scales.max() <= quantized.LARGEST
    np.testing.assert_allclose(read[1], ends[1], rtol=2**-16)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_number_that_is_not_finite_is_refused_and_the_row_is_named(bad):
    made = Shard(ShardPlan(planned("int4"), 0, 10, 3, KEY), lambda row: f"token {row}")
    with pytest.raises(NotFiniteError, match=r"token\.text\.vector of token 12 is not finite") as caught:
        made.put("vector", np.arange(3), np.array([[1.0] * 3, [2] * 3, [3, bad, 4]]))
    assert "\n" not in str(caught.value)
    assert not made.get("vector", slice(None)).any()


def planned(storage, width=3):
    return PartPlan(PartName("token.text"), {}, columns_of("token.text", {"D": width}, "<f4"), {}, storage)


def test_vectors_that_encoders_make_on_demand_are_the_ones_that_codes_are_for():
    found = {PartName(part).column(column) for part in KINDS for column in quantizable(part)}
    assert found >= set(CODED)
    assert not {part for part, about in KINDS.items() if quantizable(part) and not (about.on_demand and about.role)}


# caches


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """One synthetic cache by how its features are stored, several shards a part; tests only read them."""
    place = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "SHARD_ROWS", 32)
        patch.setattr(synth_columns, "TOKENS", (4, 6))
        patch.setattr("os.fsync", lambda descriptor: None)
        for storage in ("float16", "int8", "int4"):
            wanted = synth.Synthetic(40, 20, 5, 0.5, 0, HEADS, 7, 9, joint_width=6, regions=4, storage=storage)
            synth.write(place / storage / "toy", wanted)
    return place


@pytest.fixture(scope="module")
def sources(stored):
    """What the coded columns were made of, as float32."""
    reader = melcache.open(stored / "float16/toy")
    return {name: reader.read(name).astype(np.float32) for name in CODED}


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_every_way_of_reading_gives_the_vectors_of_the_codes_in_the_files(stored, sources, kind):
    reader = melcache.open(stored / kind / "toy")
    for name in CODED:
        part, column = name.rsplit(".", 1)
        files = [h5py.File(reader.path / shard.file) for shard in reader.manifest.shards_of(part)]
        assert len(files) > 1 and files[0][column].compression is None
        codes, scales = (np.concatenate([file[c][:] for file in files]) for c in (column, f"{column}_scale"))
        assert codes.dtype == (np.int8 if kind == "int8" else np.uint8) and scales.dtype == np.float32
        expected = encode(sources[name], kind)
        assert np.array_equal(codes, expected[0]) and np.array_equal(scales, expected[1])
        vectors = decode(codes, scales, sources[name].shape[-1])
        assert reader.shape(name) == vectors.shape and reader.dtype(name) == np.float32
        assert reader.stored_bytes(name) == codes.nbytes + scales.nbytes
        assert np.array_equal(reader.column(name), vectors) and np.array_equal(reader.read(name), vectors)
        assert np.array_equal(reader.column(f"{name}_scale"), scales)
        pieces = reader.pieces(name)
        assert [start for start, _ in pieces] == [shard.start for shard in reader.manifest.shards_of(part)]
        assert np.array_equal(np.concatenate([np.asarray(rows) for _, rows in pieces]), vectors)
        start, rows = pieces[1]
        assert (
            np.array_equal(rows[[3, 0]], vectors[[start + 3, start]])
            and rows.shape == vectors[start:][: len(rows)].shape
        )
        raw = reader.stored((name,))[name]
        assert isinstance(raw, Quantized) and np.array_equal(raw.codes, codes) and np.array_equal(raw.scales, scales)
    assert not [name for name in reader.columns if name.endswith("_scale")]
    assert not reader.column("mention.crops.vector").flags.writeable


def test_other_columns_are_those_of_a_cache_without_codes(stored):
    plain, coded = (melcache.open(stored / storage / "toy") for storage in ("float16", "int4"))
    assert plain.columns == coded.columns
    for name in set(plain.columns) - set(CODED):
        assert coded.column(name).tobytes() == plain.column(name).tobytes()
        assert coded.dtype(name) == plain.dtype(name)
    assert "width" not in json.dumps([part.as_json()["columns"] for part in plain.manifest.parts.values()])
    recipes = [part.recipe for part in plain.manifest.parts.values()]
    assert not any("storage" in recipe for recipe in recipes)  # ids of caches without codes stay


def test_a_cache_of_codes_is_checked_shown_shared_and_cleared_like_any_other(stored, tmp_path, monkeypatch):
    folder = stored / "int4/toy"
    assert not [finding for finding in verify(folder) if finding.problem]  # h5py in a child process, too
    monkeypatch.setattr(hdf5_gate, "problems", lambda folder, found, shards: ((s.file, "") for s in shards))
    tar.export(folder, tmp_path / "x.tar")
    tar.take(tmp_path / "x.tar", tmp_path / "back/toy")
    assert is_copy(tmp_path / "back/toy", folder)
    push.push(folder, str(tmp_path / "remote"))
    pull.pull(tmp_path / "part/toy", str(tmp_path / "remote"), heads="ghmfc")
    part, whole = melcache.open(tmp_path / "part/toy"), melcache.open(folder)
    assert part.id == whole.id and "mention.crops" not in part.manifest.parts
    assert np.array_equal(part.column(CODED[-1]), whole.column(CODED[-1]))
    assert not gc.collect(tmp_path / "part/toy", delete=False, unfinished=True).files
    shown = CliRunner().invoke(app, ["info", str(folder)]).stdout
    assert re.search(r"vector_scale\s+40x4\s+f4\s+scales", shown) and re.search(r"vector\s+40x4x5\s+u1", shown)
    assert "scales of the codes" in card.page(whole.manifest)


def test_diff_lets_codes_differ_by_a_step_and_no_more(stored, tmp_path):
    found = diff.compare(*(melcache.open(stored / storage / "toy") for storage in ("float16", "int4")))
    regions = found["parts"]["mention.regions"]
    assert regions["state"] == "differently" and "columns.vector.dtype" in [field for field, *_ in regions["recipe"]]
    assert regions["values"]["vector"][:2] == [0, 40] and regions["values"]["vector"][2] > 0
    assert set(regions["values"]) == {"vector", "present"}
    made = Shard(ShardPlan(planned("int4"), 0, 0, 1, KEY))
    assert diff._step(made.plan.part.manifest_entry, planned(None).manifest_entry, "vector") == 1 / 7


# strangers


def without(name):
    return lambda columns: columns.pop(name)


def with_(name, **fields):
    return lambda columns: columns[name].update(fields)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("vector_scale"), "expected codes of vectors"),
        (lambda columns: columns["vector"].pop("width"), "not in the schema"),  # scales of nothing
        (with_("vector_scale", shape=[3]), "expected codes of vectors"),
        (with_("vector_scale", shape=[]), "expected codes of vectors"),
        (with_("vector_scale", dtype="<f2"), "expected codes of vectors"),
        (with_("vector_scale", width=4), "expected codes of vectors"),
        (with_("vector", width=11), "expected codes of vectors"),
        (with_("vector", width=8), "expected codes of vectors"),
        (with_("vector", width=0), "field 'width'"),
        (with_("vector", width=True), "field 'width'"),
        (with_("vector", dtype="|i1"), "expected codes of vectors"),
        (with_("vector", dtype="<i4"), "expected codes of vectors"),
        (with_("vector", shape=[]), "expected codes of vectors"),
        (with_("present", width=1), "expected codes of vectors"),
        (with_("vector", width=10), "mention.regions.vector has V = 10"),  # another width of the same bytes
    ],
)
def test_a_manifest_whose_codes_have_no_fitting_scales_is_refused(stored, tmp_path, change, says):
    content = json.loads((stored / "int4/toy" / manifests.NAME).read_text())
    entity = content["parts"]["mention.regions"]
    columns = entity["columns"]
    if "V = " in says:
        content["parts"]["mention.image"] = plain_image(content)
    change(columns)
    (tmp_path / manifests.NAME).write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")
    with pytest.raises(CacheError, match=re.escape(says)) as caught:
        manifests.load(tmp_path)
    assert "\n" not in str(caught.value) and "mention.regions" in str(caught.value)


def plain_image(content):
    """The manifest's entry of a part that says how wide pictures' vectors are."""
    columns = {"vector": {"dtype": "<f2", "shape": [9]}}
    recipe = {"columns": columns}
    return {
        "recipe": recipe,
        "inputs": {},
        "columns": columns,
        "fingerprint": fingerprint.digest({"recipe": recipe, "inputs": {}}),
    }


def test_codes_without_a_width_are_no_features(stored, tmp_path):
    content = json.loads((stored / "int8/toy" / manifests.NAME).read_text())
    columns = content["parts"]["token.text"]["columns"]
    del columns["vector"]["width"], columns["vector_scale"]
    (tmp_path / manifests.NAME).write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")
    with pytest.raises(CacheError, match=r"column token\.text\.vector: type or shape is not the schema's"):
        manifests.load(tmp_path)


@pytest.mark.parametrize("scale", [-1.0, 5e37])
def test_a_scale_that_cannot_be_is_refused_by_its_row_and_its_shard_not_taken(tmp_path, scale):
    plan = ShardPlan(planned("int8"), 0, 0, 4, KEY)
    made = Shard(plan)
    made.put("vector", np.arange(4), np.ones((4, 3)))
    made._arrays["vector_scale"][2] = scale
    draft = Draft(tmp_path / "toy")
    draft.save(made)
    assert not Draft(tmp_path / "toy").has(plan)
    taken = Draft(tmp_path / "toy")
    taken.has(plan)
    assert "vector_scale holds" in taken.wrong[plan.file]
    tables = {"entity": 1, "mention": 1, "pair": 1, "token": 4}
    dataset = {"name": "toy", "content": "0" * 64, "licence": "CC0", "source": "a test"}
    more = {"candidates": 1, "splits": {}, "coverage": {}, "warnings": []}
    draft.finish({"dataset": dataset, "tables": tables} | more, {})
    reader = melcache.open(tmp_path / "toy")
    for read in (reader.read, reader.column, reader.pieces):
        with pytest.raises(CacheError, match=r"token\.text\.vector_scale of .* holds .* in row 2, expected 0 to"):
            read("token.text.vector")
    bad = np.array([0, np.nan, 1], np.float32)
    with pytest.raises(CacheError, match=r"vector_scale of there holds nan in row 8"):
        bounds.check(reader.manifest, "token.text.vector_scale", bad, "there", 7)


def test_a_finished_shard_of_codes_is_adopted_and_one_of_another_storage_is_not(tmp_path):
    plan = ShardPlan(planned("int4"), 0, 0, 4, KEY)
    made = Shard(plan)
    made.put("vector", np.arange(4), vectors_of(3)[:4])
    entry = made.save(tmp_path)
    assert adopt(plan, tmp_path) == entry and entry.columns.keys() == {"vector", "vector_scale"}
    assert entry.bytes <= plan.most_bytes
    for other in ("int8", None):
        assert adopt(ShardPlan(planned(other), 0, 0, 4, KEY), tmp_path) is None
    draft = Draft(tmp_path)
    assert draft.adopt(plan)
    assert np.array_equal(draft.rows("token.text.vector", np.array([2, 0])), made.get("vector", [2, 0]))


def test_a_storage_that_is_none_is_refused_by_the_command(tmp_path):
    answer = CliRunner().invoke(app, ["synth", str(tmp_path / "x"), "--storage", "int3"])
    assert answer.exit_code == 2 and "int4" in answer.stderr
