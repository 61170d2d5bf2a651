"""--storage int8 and int4 from a release to a trained head: what is stored as codes, and what is read of it."""

import dataclasses

import numpy as np
import pytest

import melcache
from cache.checks.verify import verify
from cache.kinds import quantizable
from cache.quantized import decode, encode
from common.errors import ConfigError
from extract import pipeline
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from train import loop
from train.config import TrainConfig
from train.heads.dwe.config import DweConfig
from train.heads.ghmfc.config import GhmfcConfig

pytestmark = pytest.mark.usefixtures("toys_built_once")
CODED = {"joint_token.joint.vector", "mention.crops.vector", "mention.regions.vector", "token.text.vector"}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """A release whose mentions share pictures and sentences, or lack them, so that rows are copied and neutral."""
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, {"a.png": (60, 40), "b.png": (30, 50)})
    names = ("harbor", "castle", "forest")
    entities = [entity_record(i, name, f"the {name}", "a.png" if i < 2 else None) for i, name in enumerate(names)]
    pictures = ("b.png", "a.png", None, "b.png", "absent.png", "b.png")
    mentions = [
        mention_record(i, f"A {names[i % 3]} by night{i // 4}", names[i % 3], picture, gold=f"e{i % 3}", split=split)
        for i, (picture, split) in enumerate(zip(pictures, ("train",) * 4 + ("valid", "test"), strict=True))
    ]
    write_release(folder, mentions, entities)
    return extract_config(folder, tmp_path_factory.mktemp("shards"), shard_rows=3, heads=("ghmfc", "dwe"))


@pytest.fixture(scope="module")
def made(wanted):
    """A reader by storage."""
    return {
        storage: melcache.open(pipeline.run(dataclasses.replace(wanted, storage=storage, name=f"by-{storage}")))
        for storage in ("float32", "int8", "int4")
    }


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_what_is_stored_as_codes_is_what_the_encoders_made(made, kind):
    numbers, codes = made["float32"], made[kind]
    assert not [finding for finding in verify(codes.path) if finding.problem]
    for name in CODED:
        given = numbers.read(name)
        assert np.array_equal(codes.column(name), decode(*encode(given, kind), given.shape[-1])), name
    assert set(numbers.columns) == set(codes.columns)
    assert {name for name in codes.columns if codes.stored((name,))[name].dtype != codes.dtype(name)} <= CODED
    plain = set(codes.columns) - CODED - {name for name in codes.columns if name.startswith("mention.attributes")}
    for name in plain:
        values = numbers.column(name)
        expected = values.astype(np.float16) if codes.dtype(name) == np.float16 else values
        assert name.startswith("pair.alignment") or np.array_equal(codes.column(name), expected), name


def test_the_recipe_says_which_columns_are_codes_and_other_parts_are_those_of_float16(wanted, made):
    plain = melcache.open(pipeline.run(dataclasses.replace(wanted, name="plain")))
    parts, others = made["int4"].manifest.parts, plain.manifest.parts
    differ = {name for name in parts if parts[name].fingerprint != others[name].fingerprint}
    assert differ == {name for name in parts if quantizable(name)} | {"mention.attributes"}  # made of crops
    assert parts["token.text"].recipe["columns"]["vector"] == {"dtype": "|u1", "shape": [64], "width": 128}


def test_a_second_run_keeps_every_shard_and_one_of_another_storage_only_what_it_shares(wanted, made, watched):
    config = dataclasses.replace(wanted, storage="int4", name="by-int4")
    pipeline.run(config)
    assert watched[-1].draft.made == 0
    pipeline.run(dataclasses.replace(config, storage="float16"))
    kept = set(watched[-1].draft.shards("kept"))  # what a cache beside this one has is not computed either
    coded = {part for part in made["int4"].manifest.parts if quantizable(part)}
    assert made["int4"].manifest.parts.keys() - kept == coded | {"mention.attributes"}
    pipeline.run(config)
    assert melcache.open(config.folder).id == made["int4"].id


def test_codes_that_no_part_would_have_are_refused(wanted):
    with pytest.raises(ConfigError, match=r"--storage int4 is for tokens, regions, patches and crops.*--for ghmfc"):
        pipeline.run(dataclasses.replace(wanted, storage="int4", heads=(), name="none"))


@pytest.mark.parametrize("model", ["ghmfc", "dwe"])
def test_a_head_is_trained_on_codes_to_top_k(made, tmp_path, model):
    folder = made["int4"].path
    head = GhmfcConfig(width=16, tokens=12, attention_heads=2, attention_layers=1) if model == "ghmfc" else DweConfig()
    config = TrainConfig(model=model, dataset=str(folder), epochs=1, batch=2, run=tmp_path / "run", device="cpu")
    found = loop.fit(config, head)
    assert 0 <= found["mean"]["test"]["top1"] <= 1
