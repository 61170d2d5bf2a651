"""The options of an extraction, read back from the recipes that it left; encoders that are not the cache's refused."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cache.kinds import KINDS
from cache.manifests.entries import Provenance
from common.errors import ConfigError
from extract import pipeline
from extract.config import ExtractConfig
from extract.encoders import Encoders, of_files
from extract.planning import recipes
from extract.planning.candidate_lists import Lists
from extract.planning.layout import Layout
from extract.planning.rows import Rows
from link.linker import Linker
from link.records import NewMention
from link.vectors.encoder_settings import Asked, config_of, roles_of
from tests.extract import models
from tests.worlds import extract_config
from train import loop
from train.config import TrainConfig

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
MINE = """class Encoder:
    width, limit = 2, 9
    def tokens(self, text, side): return [1], [(0, 1)]
    def encode(self, ids, mask): raise AssertionError
"""
EMPTY = Rows([], [], Layout({"entity": [], "mention": []}, ((0, 0),)), {})


def planned(config):
    lists = Lists(*(np.zeros((0, 5), kind) for kind in (np.int32, np.int32, np.float32, np.float32)), "")
    return recipes.plan(config, Encoders(config), lists, EMPTY, {})


def manifest(config):
    """What config_of reads of a manifest, without an extraction."""
    parts = {name: part.manifest_entry for name, part in planned(config).items()}
    return SimpleNamespace(parts=parts, dataset=SimpleNamespace(name="world"), provenance=Provenance({}, {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "random-full", "precision": "bf16"},
        {"weights": "random-full", "detector": "v2"},
        {"text_weights": "random-full", "objects": 2, "text_batch": 7, "image_batch": 3},
        {"entity_tokens": 9, "sentence_tokens": 20, "storage": "float32"},
        {"heads": ("ghmfc", "mel_hi"), "storage": "int8"},
        {"heads": ("ghmfc",), "storage": "int4"},
        {"heads": ("dwe",), "infer_gender": True},
        {"heads": ("dwe",), "infer_gender": True, "infer_race": True, "objects": 1},
    ],
)
def test_options_read_from_recipes_make_the_same_recipes(options):
    config = ExtractConfig(dataset="jsonl", **{"weights": "random-tiny", "remote": "", "device": "cpu"} | options)
    held = manifest(config)
    parts = [name for name, part in KINDS.items() if name in held.parts and (part.role or part.inputs)]
    parts = [name for name in parts if name.table in ("mention", "token", "joint_token")]
    again = planned(config_of(held, parts, Asked(), device="cpu", candidates=5))
    assert {name: again[name].fingerprint for name in parts} == {name: held.parts[name].fingerprint for name in parts}


def test_encoders_that_no_part_needs_are_toys():
    config = ExtractConfig(dataset="jsonl", weights="random-full", remote="", device="cpu")
    found = config_of(manifest(config), ["mention.text"], Asked(), device="cpu", candidates=5)
    assert (found.weights_of("text"), found.weights_of("image")) == ("random-full", "random-tiny")
    assert roles_of(["mention.objects"]) == {"objects", "image"}


def test_a_manifest_that_says_nothing_of_an_encoder_is_one_line():
    held = manifest(ExtractConfig(dataset="jsonl", weights="random-tiny", remote="", device="cpu"))
    part = held.parts["mention.text"]
    held.parts = {"mention.text": replace(part, recipe=part.recipe | {"encoder": "unknown"})}
    with pytest.raises(ConfigError, match="does not say how its text encoder works"):
        config_of(held, ["mention.text"], Asked(), device="cpu", candidates=5)
    with pytest.raises(ConfigError, match="--encoder words: expected one of text"):
        Asked(names={"words": "x"})


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        ({"compute": "fp8"}, "does not say how its text encoder works"),
        ({"encoder": "AutoModel Evil", "weights": "0" * 64}, r"was named .* --encoder text=NAME"),
        ({"batch": "0 texts", "weights": 7}, None),
    ],
)
@pytest.mark.parametrize("origin", ["evil.py@" + "0" * 40, "../evil@" + "0" * 40, "/tmp/x@1", 7, {"text": 1}])
def test_what_a_strangers_manifest_says_of_encoders_names_no_file(recipe, match, origin):
    held = manifest(ExtractConfig(dataset="jsonl", weights="random-tiny", remote="", device="cpu"))
    part = held.parts["mention.text"]
    told = part.recipe | {"encoder": part.recipe["encoder"] | recipe}
    held.parts = {"mention.text": replace(part, recipe=told)}
    held.provenance = Provenance({"encoders": {"text": origin}}, {})
    if match is None:
        assert config_of(held, ["mention.text"], Asked(), device="cpu", candidates=5).text is None
    else:
        with pytest.raises(ConfigError, match=match):
            config_of(held, ["mention.text"], Asked(), device="cpu", candidates=5)


def test_the_name_of_a_model_of_the_hub_is_taken_from_the_manifest():
    held = manifest(ExtractConfig(dataset="jsonl", weights="random-tiny", remote="", device="cpu"))
    part = held.parts["mention.text"]
    told = part.recipe | {"encoder": part.recipe["encoder"] | {"encoder": "AutoModel BertModel"}}
    held.parts = {"mention.text": replace(part, recipe=told)}
    held.provenance = Provenance({"encoders": {"text": "BAAI/bge-m3@" + "5" * 40}}, {})
    assert config_of(held, ["mention.text"], Asked(), device="cpu", candidates=5).text == "BAAI/bge-m3"


@pytest.fixture(scope="module")
def named(world, tmp_path_factory):
    """A text encoder in a folder, and a run on a cache beside the world's that it made."""
    folder = tmp_path_factory.mktemp("named")
    model = models.save(
        "bert", folder / "model", pooling={"pooling_mode_mean_tokens": True}, prompts={"query": "ask: "}
    )
    config = extract_config(world.release, world.cache.parent, name="named", candidates=4, text=str(model))
    cache = pipeline.run(config)
    loop.fit(TrainConfig(dataset=str(cache), model="drin", run=folder / "run", epochs=1, device="cpu"), _drin())
    return model, folder / "run"


def _drin():
    from train.heads.drin.config import DrinConfig

    return DrinConfig(width=4)


def test_a_named_encoder_is_asked_for_and_compared(named, world, tmp_path, monkeypatch):
    model, run = named
    with pytest.raises(ConfigError, match=r"the text encoder .* was named .* --encoder text=NAME, or the folder"):
        Linker.load(run, device="cpu")
    other = models.save(
        "bert", tmp_path / "other", pooling={"pooling_mode_mean_tokens": True}, prompts={"query": "ask: "}, words=200
    )
    with monkeypatch.context() as patch:  # files say so, before a library is loaded
        patch.setattr("link.vectors.encoding.Encoders", None)
        with pytest.raises(
            ConfigError, match=r"mention\.text was made with weights \w{12}, and here it would be \w{12} "
        ):
            Linker.load(run, device="cpu", encoders={"text": str(other)})
    lower = shutil.copytree(model, tmp_path / "lower")
    (lower / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    with pytest.raises(ConfigError, match=r"mention\.text was made with a tokenizer .* --encoder text=NAME or FOLDER"):
        Linker.load(run, device="cpu", encoders={"text": str(lower)})
    linker = Linker.load(run, device="cpu", encoders={"text": str(model)})
    [link] = linker.link([NewMention("Oslo by night, again", "Oslo")])
    assert link.known is None and link.candidates


def test_a_cache_of_another_version_is_one_line(named, world, monkeypatch):
    model, run = named
    real = recipes._encoded
    monkeypatch.setattr(recipes, "_encoded", lambda *given: real(*given) | {"leaf": 1})
    told = r"was made by another version of melcache: of mention\.\w+, this version says {}, which the cache does not"
    with pytest.raises(ConfigError, match=told.format("the setting 'leaf'")) as error:
        Linker.load(run, device="cpu", encoders={"text": str(model)})
    assert "extract it again, and train on that" in error.value.text
    monkeypatch.setattr("link.vectors.encoding.Encoders", None)  # what files say is compared before
    monkeypatch.setattr(of_files, "BLANKS", {"blank": "a word of its own"})
    with pytest.raises(
        ConfigError, match=r"how a blank before a text is read 'put in .*, and here it would be 'a word"
    ):
        Linker.load(run, device="cpu", encoders={"text": str(model)})
    monkeypatch.setattr(of_files, "BLANKS", {"blanks": "two"})
    with pytest.raises(ConfigError, match=told.format("the setting 'blanks'")):
        Linker.load(run, device="cpu", encoders={"text": str(model)})


def test_what_files_say_of_an_encoder_is_part_of_its_recipe(named, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    for asked in (str(named[0]), str(tmp_path / "mine.py")):
        config = ExtractConfig(dataset="jsonl", weights="random-tiny", remote="", device="cpu", text=asked)
        told = of_files.recipe(config, "text")
        assert len(told) > 1 and told.items() <= Encoders(config).text.recipe.items()
        assert of_files.recipe(config, "joint") == of_files.recipe(config, "image") == {}
