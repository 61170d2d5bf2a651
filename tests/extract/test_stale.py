"""No stale mix: a cache made in any other way is computed anew, or refused, and the field that differs is named."""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from PIL import Image

import melcache
from cache import fingerprint, manifests
from cache.checks import diff
from cache.kinds import KINDS
from cache.writing.draft import Draft
from common.errors import CacheError
from extract import datasets, pipeline
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning import candidate_lists, recipes, row_order, rows
from extract.planning.shards import Plan
from tests.worlds import entity_record, extract_config, mention_record, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once")
HEADS = ("ghmfc", "dwe", "mel_hi")  # among them they read every part on demand
PICTURES = {"image", "joint", "objects", "regions", "crops", "joint_token.joint"}
TEXTS = {"text", "joint"}
# another value of each knob; whose recipes differ then, by part or by kind of part; and what the fields are called
DECIDE = {
    "storage": ("float32", PICTURES | TEXTS | {"mention.attributes"}, "columns."),
    "detector": ("v2", {"objects"}, "encoder."),
    "objects": (2, {"objects", "crops", "mention.attributes"}, ""),
    "entity_tokens": (64, {"entity.text"}, "max_tokens"),
    "sentence_tokens": (32, {"mention.text", "token.text", "mention.tokens"}, "max_tokens"),
    "text_batch": (3, TEXTS | {"mention.crops"}, "encoder."),  # CLIP's batches are of both
    "image_batch": (3, PICTURES, "encoder."),
    "pixels": ("device", PICTURES - {"joint_token.joint"}, "encoder."),
    "precision": ("bf16", PICTURES | TEXTS, "encoder."),
    "infer_gender": (True, {"mention.attributes"}, ""),
    "infer_race": (True, {"mention.attributes"}, ""),
    "candidates": (2, {"pair.candidates", "pair.alignment"}, "columns."),
    "weights": ("random-full", PICTURES | TEXTS | {"mention.attributes"}, ""),
}
# knobs that say where and when, which rows, or what else; the rows stand in each shard's key, faces in their part's
# recipe once there are some (tests/extract/test_attributes.py); those of --text and --joint: test_named_*.py; lists
# by vectors are made behind these: test_candidates_by_vectors.py; aliases stand in the lists' recipe: test_aliases.py
OTHERS = {
    "dataset", "data", "shards", "name", "descriptions", "faces", "max_missing", "heads", "limit", "reorder", "device",
    "workers", "shard_rows", "remote", "push", "explain", "plan", "json", "strict", "require_signed", "signers",
    "text", "text_pooling", "text_weights", "query_prompt", "passage_prompt", "image", "image_weights", "joint",
    "aliases", "joint_weights", "joint_edges", "detector_weights", "text_tokens", "candidates_from",
    "workers_on", "slurm", "wait", "by_plan",
}  # fmt: skip


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    (folder / "images").mkdir()
    for color in ("red", "blue", "gray"):
        picture = Image.new("RGB", (60, 40), color)
        picture.paste("black", (10, 10, 30, 20))
        picture.save(folder / f"images/{color}.png")
    entities = [
        entity_record(i, name, f"the {name} of the north", image, description=f"long {name}")
        for i, (name, image) in enumerate([("harbor", "red.png"), ("castle", "blue.png"), ("forest", None)])
    ]
    mentions = [
        mention_record(i, f"A {name} by night", name, image, gold=f"e{i}")
        for i, (name, image) in enumerate([("harbor", "gray.png"), ("castle", "blue.png"), ("forest", "absent.png")])
    ]
    write_release(folder, mentions, entities)
    return extract_config(folder, tmp_path_factory.mktemp("shards"), shard_rows=2, heads=HEADS)


@pytest.fixture(scope="module")
def reader(wanted):
    return melcache.open(pipeline.run(wanted))


class Planner:
    """Plans of one release; `parts` are those of the plan that the cache was made by."""

    def __init__(self, config):
        self.config = config
        release, layout = row_order.arrange(datasets.load(config.dataset, config.source), None, config.shard_rows)
        self.rows, self.lists = rows.Rows.hashed(release, layout, 1), candidate_lists.make(release, config.list_length)
        self.encoders = Encoders(config)
        self.parts = self.plan().parts

    def plan(self):
        return Plan(self.config, self.rows, self.lists, self.encoders)


@pytest.fixture(scope="module")
def planner(wanted):
    return Planner(wanted)


def leaves(value, path=()) -> Iterator[tuple]:
    """Paths of everything in a recipe that is no mapping and no list."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def another(value):
    """Some other value of a leaf's type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value} changed" if isinstance(value, str) else "changed"


def changed(recipe, path):
    """A recipe with one leaf changed, and the leaf's old and new value."""
    recipe = copy.deepcopy(recipe)
    node = recipe
    for key in path[:-1]:
        node = node[key]
    old, node[path[-1]] = node[path[-1]], another(node[path[-1]])
    return recipe, old, node[path[-1]]


def named(path):
    """The field that `melcache diff` must name: lists are compared as a whole."""
    keys = []
    for key in path:
        if isinstance(key, int):
            break
        keys.append(key)
    return ".".join(keys)


def derived(name):
    """A part and all that derive from it."""
    found = {name}
    for part, made in KINDS.items():
        if found & set(made.inputs):
            found.add(part)
    return found


def files(plan, names):
    """File names of the shards of some parts."""
    tables = ("entity", "mention", "pair")
    return {s.file: s for table in tables for made in plan.shards(table) for s in made if s.part.name in names}


def test_each_leaf_of_each_recipe_changed_alone_makes_other_files_and_is_named(planner, reader, monkeypatch):
    real, base, folder = recipes._recipes, planner.parts, reader.path
    assert {name: part.fingerprint for name, part in base.items()} == {
        name: part.fingerprint for name, part in reader.manifest.parts.items()
    }
    before = files(planner.plan(), base)
    adopting = Draft(folder)
    assert all(adopting.adopt(shard) for shard in before.values())
    tried = 0
    given = (planner.config, planner.encoders, planner.lists, planner.rows, planner.config.demanded)
    for name, recipe in real(*given).items():
        recipe = json.loads(fingerprint.canonical(recipe))
        for path in leaves(recipe):
            new, old_value, new_value = changed(recipe, path)
            monkeypatch.setattr(recipes, "_recipes", lambda *given, name=name, new=new: real(*given) | {name: new})
            plan, affected = planner.plan(), derived(name)
            differ = {part for part in base if plan.parts[part].fingerprint != base[part].fingerprint}
            assert differ == affected, (name, path)
            after = files(plan, affected)
            assert after and not after.keys() & before.keys(), (name, path)
            draft = Draft(folder)
            assert not any(draft.adopt(shard) for shard in after.values()), (name, path)
            both = (base[name].manifest_entry.recipe, plan.parts[name].manifest_entry.recipe)
            ((field, *values),) = diff.recipes(*both)
            assert field == named(path)
            assert isinstance(path[-1], int) or values == [old_value, new_value]
            for part in affected - {name}:
                inputs = (base[part].manifest_entry.inputs, plan.parts[part].manifest_entry.inputs)
                assert {field for field, *_ in diff.recipes(*inputs)} == affected & set(KINDS[part].inputs)
            tried += 1
    assert tried >= 100


def test_each_leaf_of_a_manifests_recipes_changed_alone_is_refused(reader, tmp_path):
    good = json.loads((reader.path / manifests.NAME).read_text())
    tried = 0
    for name, part in good["parts"].items():
        for path in leaves(part["recipe"]):
            content = copy.deepcopy(good)
            content["parts"][name]["recipe"], *_ = changed(part["recipe"], path)
            (tmp_path / manifests.NAME).write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")
            with pytest.raises(CacheError, match=f"part {name}: its fingerprint is not that of its recipe"):
                manifests.load(tmp_path)
            tried += 1
    assert tried >= 200


@pytest.mark.parametrize("knob", DECIDE)
def test_each_knob_that_decides_numbers_stands_in_the_recipes_of_the_parts_that_it_decides(planner, knob):
    value, kinds, called = DECIDE[knob]
    if knob == "detector":  # of the tiny one there is one version
        planner = Planner(replace(planner.config, weights="random-full"))
    before, after = planner.parts, Planner(replace(planner.config, **{knob: value})).parts
    found = {
        name: [field for field, *_ in diff.recipes(*(made[name].manifest_entry.recipe for made in (before, after)))]
        for name in before
    }
    expected = {name for name in before if name in kinds or name.split(".")[1] in kinds}
    assert {name for name, differing in found.items() if differing} == expected
    assert all(field.startswith(called) for differing in found.values() for field in differing)


def test_every_knob_is_known_to_decide_numbers_or_not():
    assert {field.name for field in fields(ExtractConfig)} == DECIDE.keys() | OTHERS
    assert not DECIDE.keys() & OTHERS


def test_an_extraction_with_another_recipe_takes_nothing_of_the_old_one_that_it_changes(wanted, reader):
    before = {path.name for path in reader.path.glob("*.h5")}
    other = melcache.open(pipeline.run(replace(wanted, entity_tokens=64)))
    assert other.id != reader.id
    taken = {shard.part for shard in other.manifest.shards if shard.file in before}
    made = {shard.part for shard in other.manifest.shards if shard.file not in before}
    assert made == {"entity.text", "pair.alignment"} and not taken & made
    assert [field for field, *_ in diff.compare(reader, other)["parts"]["entity.text"]["recipe"]] == ["max_tokens"]
