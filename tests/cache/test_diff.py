"""`melcache diff`: which field of a recipe differs, which rows are new, and which values changed."""

import hashlib
import json
import re

import numpy as np
import pytest
import xxhash
from typer.testing import CliRunner

import melcache
from cache import manifests
from cache.checks import diff
from cache.cli import app
from cache.names import PartName
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, columns_of


def build(folder, ids, vectors, resize=232, present=None):
    """A cache of entity.ids and entity.image with the given rows."""
    draft = Draft(folder)
    count, width = vectors.shape
    sizes = {"id": 4, "name": 4, "V": width}
    columns = {
        "entity.ids": {"id": np.array(ids, "S4"), "name": np.array(ids, "S4")},
        "entity.image": {"vector": vectors, "present": np.ones(count, bool) if present is None else present},
    }
    recipes = {
        "entity.ids": {},
        "entity.image": {"encoder": {"name": "resnet152", "resize": resize}, "policy": "white"},
    }
    for name, arrays in columns.items():
        plan = PartPlan(PartName(name), recipes[name], columns_of(name, sizes, "<f2", tuple(arrays)))
        shard = Shard(ShardPlan(plan, 0, 0, count, f"{resize:064d}"))
        for column, values in arrays.items():
            shard.put(column, np.arange(count), values)
        draft.save(shard)
    about = {
        "dataset": {"name": folder.name, "content": "0" * 64, "licence": "CC0", "source": "a test"},
        "tables": {"entity": count, "mention": 1, "pair": 1},
        "candidates": 1,
        "splits": {},
        "coverage": {},
        "warnings": [],
    }
    draft.finish(about, {})
    return melcache.open(folder)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_recipes_name_the_field_and_both_values():
    first = {"encoder": {"resize": 232, "mean": [0.4]}, "dtype": "f2"}
    second = {"encoder": {"resize": 256, "mean": [0.4]}, "crop": 224, "dtype": "f2"}
    assert list(diff.recipes(first, second)) == [("crop", diff.ABSENT, 224), ("encoder.resize", 232, 256)]
    assert list(diff.recipes(first, first)) == []


def test_rows_are_matched_by_id_wherever_they_stand(tmp_path, vectors):
    first = build(tmp_path / "a", ["Q1", "Q2", "Q3", "Q4", "Q5"], vectors)
    order = [4, 2, 0]
    moved = build(tmp_path / "b", ["Q5", "Q3", "Q1", "Q9"], np.concatenate([vectors[order], vectors[:1]]))
    found = diff.compare(first, moved)
    assert found["rows"]["entity"] == {"both": 3, "first": 5, "second": 4}
    assert found["parts"]["entity.image"]["state"] == "alike"
    assert found["parts"]["entity.image"]["values"]["vector"] == [0, 3, 0.0]


def test_values_are_compared_within_the_tolerance(tmp_path, vectors):
    ids = ["Q1", "Q2", "Q3", "Q4", "Q5"]
    changed = vectors.copy()
    changed[1] *= 1 + 1e-3  # as another batch may round it
    changed[3, 0] += 1.0
    seen = np.array([True, True, False, True, True])
    found = diff.compare(build(tmp_path / "a", ids, vectors), build(tmp_path / "b", ids, changed, present=seen))
    rows, of, largest = found["parts"]["entity.image"]["values"]["vector"]
    assert (rows, of) == (1, 5)
    assert largest == pytest.approx(1.0, abs=2e-3)
    assert found["parts"]["entity.image"]["values"]["present"] == [1, 5, 0.0]
    strict = diff.compare(melcache.open(tmp_path / "a"), melcache.open(tmp_path / "b"), tolerance=1e-5)
    assert strict["parts"]["entity.image"]["values"]["vector"][0] == 2


def damaged(folder, column, values):
    """Put other values into a finished column of one shard, with checksums that fit, as no writer would."""
    path = folder / "manifest.json"
    found = json.loads(path.read_text())
    shard = next(shard for shard in found["shards"] if column in shard["columns"])
    place, data = shard["columns"][column], bytearray((folder / shard["file"]).read_bytes())
    data[place["offset"] : place["offset"] + values.nbytes] = values.tobytes()
    (folder / shard["file"]).write_bytes(data)
    place["xxh3"], shard["sha256"] = xxhash.xxh3_128_hexdigest(values.tobytes()), hashlib.sha256(data).hexdigest()
    path.write_bytes(manifests.written(manifests.seal(found)))
    return melcache.open(folder)


NOT_FINITE = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_number_that_is_not_finite_differs_from_all_others(tmp_path, vectors, value):
    ids = ["Q1", "Q2", "Q3", "Q4", "Q5"]
    first = build(tmp_path / "a", ids, vectors)
    for name, rows in (("all", [0, 1, 2, 3, 4]), ("one", [2])):
        build(tmp_path / name, ids, vectors)
        changed = vectors.astype("<f2")
        changed[rows] = value
        other = damaged(tmp_path / name, "vector", changed)
        for pair in ((first, other), (other, first)):
            values = diff.compare(*pair)["parts"]["entity.image"]["values"]
            assert values["vector"] == [len(rows), 5, 0.0]
            assert "vector: " + str(len(rows)) + " of 5 differ" in diff.show(diff.compare(*pair), ("a", "b"))
        assert diff.compare(other, other)["parts"]["entity.image"]["values"]["vector"] == [0, 5, 0.0]


def test_of_numbers_that_are_not_finite_each_equals_itself_alone():
    held = np.array([[*NOT_FINITE, 1.0]])
    for place in range(3):
        for value in (*NOT_FINITE, 5.0):
            other = held.copy()
            other[0, place] = value
            same = value == held[0, place] or (np.isnan(value) and np.isnan(held[0, place]))
            differ, apart = diff._floats(held, other, 1e9)
            assert (bool(differ[0]), apart.tolist()) == (not same, [0.0])
    assert diff._floats(held, held + np.eye(4)[3:] / 2, 0.4)[1].tolist() == [0.5]  # beside them numbers still count


@pytest.mark.parametrize("tolerance", ["nan", "inf", "-1"])
def test_a_tolerance_that_nothing_exceeds_is_refused(tmp_path, tolerance):
    run = CliRunner().invoke(app, ["diff", str(tmp_path), str(tmp_path), "--tolerance", tolerance])
    assert run.exit_code == 2 and re.search(r"error: --tolerance is .*; it must be 0 or more", run.stderr)


def test_the_command_says_what_differs_and_exits_1(tmp_path, vectors):
    ids = ["Q1", "Q2", "Q3", "Q4", "Q5"]
    build(tmp_path / "a", ids, vectors)
    build(tmp_path / "b", ids, vectors, resize=256)
    run = CliRunner().invoke(app, ["diff", str(tmp_path / "a"), str(tmp_path / "b")])
    assert run.exit_code == 1
    assert "entity.image: encoder.resize: 232 in 1, 256 in 2" in run.stdout
    assert "entity.image: policy" not in run.stdout
    run = CliRunner().invoke(app, ["diff", str(tmp_path / "a"), str(tmp_path / "a")])
    assert (run.exit_code, "are the same cache" in run.stdout) == (0, True)
    run = CliRunner().invoke(app, ["diff", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert json.loads(run.stdout)["parts"]["entity.image"]["recipe"] == [["encoder.resize", 232, 256]]
