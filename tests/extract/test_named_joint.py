"""Joint encoders by name: every family against open_clip's own functions, one text or picture at a time."""

import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import _hub
from typer.testing import CliRunner

import cache as melcache
from cache.edges import EDGES, Probability
from common import memory
from common.errors import CacheError, ConfigError, WeightsError
from extract import images, pipeline
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.compute import Compute
from extract.encoders.detection.model import PROCESSORS
from extract.encoders.image import timm_files
from extract.encoders.joint.named import NamedJoint
from extract.encoders.packed_linear import PackedLinear
from extract.encoders.text.model import TOKENIZERS
from extract.weights import hub_files, open_clip_files, sources
from tests.extract import detector_models, joint_models, models
from tests.extract.bad_models import edit_state, flat, refused, remove, written
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from train import loop
from train.cli import app
from train.config import TrainConfig, resolved
from train.evaluating import computed_edges

CPU = Compute(torch.device("cpu"), "fp32")
PLAIN = {PackedLinear: torch.nn.Linear}  # on a CPU
FAMILIES = list(joint_models.CONFIGS)
TEXTS = [
    "Paris at night",
    "",
    "x",
    "東京 and 北京市 are big 🚀",
    "café naïve Straße, (really?)",
    "harbor castle " * 40,
]
WIDTH, LIMIT = dict.fromkeys(FAMILIES, 20) | {"siglip": 32}, {"clip": 12, "siglip": 10, "multilingual": 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a tiny model by family; tests only read them."""
    place = tmp_path_factory.mktemp("joint")
    return {family: joint_models.save(family, place / family) for family in FAMILIES}


@pytest.fixture
def copied(folders, tmp_path):
    """A function that copies a family's folder, to be changed."""
    return lambda name: shutil.copytree(folders[name], tmp_path / name)


@pytest.fixture(scope="module")
def library(folders):
    """A function from family to model, transform and tokenizer as open_clip itself makes them."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = joint_models.library(folders[family])
        return made[family]

    return of


def named(spec, **options):
    config = ExtractConfig(joint=str(spec), **{"weights": "random-tiny", "text_batch": 4, "image_batch": 2} | options)
    return NamedJoint(config, sources.parse(config.weights_of("joint"), online=True), CPU)


def local(folder, **options):
    return named(f"local-dir:{folder}", **options)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and nothing in the download cache."""

    def unreachable(host):
        raise OSError(f"{host} cannot be reached")

    for module in (open_clip_files, hub_files):
        monkeypatch.setattr(module, "reachable", unreachable)
    monkeypatch.setenv("HOME", str(tmp_path))


def pictures():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)) for size in ((40, 70), (33, 32), (90, 31))]


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_open_clip(folders, library, family):
    encoder, (model, transform, tokenizer) = local(folders[family]), library(family)
    assert encoder.width == WIDTH[family]
    images = pictures()
    vectors = encoder.encode_images(images), encoder.encode_texts(TEXTS)
    with torch.inference_mode():
        for image, vector in zip(images, vectors[0], strict=True):
            np.testing.assert_allclose(vector, model.encode_image(transform(image)[None])[0], atol=1e-5)
        for text, vector in zip(TEXTS, vectors[1], strict=True):
            np.testing.assert_allclose(vector, model.encode_text(tokenizer([text]))[0], atol=1e-5)
        logits, _ = model.get_logits(transform(images[0])[None], tokenizer(TEXTS[:1]))
    unit = [vector[0] / np.linalg.norm(vector[0]) for vector in vectors]
    found = encoder.logits.scale * float(unit[0] @ unit[1]) + (encoder.logits.bias or 0)
    assert found == pytest.approx(float(logits), abs=1e-4)
    assert (encoder.logits.bias is None) == (family != "siglip")


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_counted_as_the_model_reads_them(folders, library, family):
    encoder, (model, _, tokenizer) = local(folders[family]), library(family)
    assert encoder.recipe["limit"] == LIMIT.get(family, 20)
    long = [i for i, text in enumerate(TEXTS) if encoder.is_cut(text)]
    assert long[-1] == len(TEXTS) - 1 and not {1, 2} & set(long)
    for text, states in zip(TEXTS, encoder.encode_tokens(TEXTS), strict=True):
        ids = tokenizer([text])
        padding = encoder._words.padding or 0
        read = int((ids[0] != padding).nonzero()[-1]) + 1
        assert encoder.count(text) == len(states) == read
        with torch.inference_mode():
            vector = model.encode_text(ids)[0].numpy()
        assert states.shape == (read, encoder.width)
        if family in ("clip", "multilingual"):  # which pool by the end token
            np.testing.assert_allclose(states[-1], vector, atol=1e-5)
        if family == "xlm-roberta":  # a mean, and linear: projected one by one it is the same
            np.testing.assert_allclose(states.mean(0), vector, atol=1e-5)
    edge = next(n for n in range(1, 30) if encoder.is_cut("x " * n))
    assert encoder.count("x " * (edge - 1)) == encoder.count("x " * edge) == encoder.recipe["limit"]


@pytest.mark.parametrize(("family", "word"), [("clip", "<end_of_text>"), ("multilingual", "</s>")])
def test_a_text_that_spells_the_end_token_is_read_to_its_end(folders, family, word):
    encoder = local(folders[family])
    one, two = encoder.encode_texts([f"{word} Paris", f"{word} London"])
    assert np.abs(one - two).max() > 1e-3
    ids = encoder.ids([f"{word} Paris", "Paris"])
    ends = {int(row[encoder.count(text) - 1]) for row, text in zip(ids, (f"{word} Paris", "Paris"), strict=True)}
    assert len(ends) == 1 and (ids == ends.pop()).sum() == 2


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "multilingual"])
@pytest.mark.usefixtures("toys_built_once")
def test_a_release_becomes_vectors_of_the_encoder_that_is_named(folders, tmp_path, family):
    texts = ["東京 by night", "Paris by night"]
    mentions = [mention_record(i, text, text.split()[0], f"{i}.png", split="test") for i, text in enumerate(texts)]
    entities = [entity_record(0, "東京", "a city", "0.png"), entity_record(1, "Paris", "a city")]
    release = write_release(tmp_path / "release", mentions, entities)
    write_pictures(release, {"0.png": (40, 30), "1.png": (20, 50)})
    options = {"joint": f"local-dir:{folders[family]}", "heads": ("dwe",)}
    reader = melcache.open(pipeline.run(extract_config(release, tmp_path / "shards", **options)))
    encoder = local(folders[family])
    vectors = encoder.encode_texts([*texts, "Paris: a city"])
    near = {"atol": 2e-3, "rtol": 2e-3}
    np.testing.assert_allclose(reader.column("mention.joint.sentence"), vectors[:2], **near)
    np.testing.assert_allclose(reader.column("entity.joint.text")[1], vectors[2], **near)
    picture = Image.open(release / "images" / "1.png").convert("RGB")
    np.testing.assert_allclose(reader.column("mention.joint.image")[1], encoder.encode_images([picture])[0], **near)
    first, count = (reader.column(f"mention.joint_tokens.{name}")[1] for name in ("first", "count"))
    (states,) = encoder.encode_tokens(texts[1:])
    np.testing.assert_allclose(reader.column("joint_token.joint.vector")[first : first + count], states, **near)
    recipe = reader.manifest.parts["entity.joint"].recipe["encoder"]
    assert recipe["logits"] == {"scale": encoder.logits.scale, "bias": encoder.logits.bias}
    assert reader.column("mention.crops.vector").shape[-1] == reader.column("mention.attributes.scene").shape[-1]
    scene = reader.manifest.parts["mention.attributes"].recipe["attributes"]["probabilities"]
    assert scene == f"softmax of {encoder.logits.scale:.9g} cosine within a question"
    asked = {"model": "clip", "dataset": str(reader.path), "run": tmp_path / "run", "device": "cpu"}
    found = loop.fit(resolved(TrainConfig(**asked)), None)
    assert found["seeds"][0]["test"]["top1"] in (0, 0.5, 1)


@pytest.fixture
def release(tmp_path):
    """Two mentions and three entities, of each side one without a picture."""
    mentions = [mention_record(i, f"{name} by night", name) for i, name in enumerate(("Rome", "Paris"))]
    mentions[1]["image"] = "images/1.png"
    entities = [entity_record(i, name, "a city") for i, name in enumerate(("Rome", "Paris", "Lima"))]
    entities[0]["image"] = "images/0.png"
    write_pictures(tmp_path / "release", {"0.png": (40, 30), "1.png": (20, 50)})
    return write_release(tmp_path / "release", mentions, entities)


@pytest.mark.usefixtures("toys_built_once")
def test_edges_are_the_models_own_probabilities_where_that_is_asked_for(folders, release, tmp_path):
    encoder, made = local(folders["siglip"]), {}
    for are in ("cosine", "probability"):
        asked = {"joint": f"local-dir:{folders['siglip']}", "joint_edges": are, "name": are}
        made[are] = melcache.open(pipeline.run(extract_config(release, tmp_path / "shards", **asked)))
    for edge in ("text_to_image", "image_to_text"):
        cosines, found = (made[are].column(f"pair.alignment.{edge}") for are in made)
        known = cosines != 0
        assert 0 < known.sum() < known.size and (found[~known] == 0).all()
        expected = torch.sigmoid(torch.from_numpy(encoder.logits.scale * cosines[known]) + encoder.logits.bias)
        np.testing.assert_allclose(found[known], expected, rtol=1e-5)
    recipes = [dict(flat(made[are].manifest.parts["pair.alignment"].recipe)) for are in made]
    told = {f"joint_edges.{name}": getattr(encoder.logits, name) for name in ("scale", "bias")}
    assert recipes[1] == recipes[0] | told | {"joint_edges.are": "sigmoid(scale * cosine + bias)"}
    assert made["cosine"].manifest.parts["entity.joint"] == made["probability"].manifest.parts["entity.joint"]
    lists = torch.from_numpy(made["probability"].column("pair.candidates.candidates").astype(np.int64))
    aligned = computed_edges.table_of(made["probability"], "device", torch.device("cpu"))
    again = computed_edges.edges(aligned, torch.arange(len(lists)), lists).flatten(2).numpy()
    for i, edge in enumerate(EDGES):
        np.testing.assert_array_equal(again[..., i], made["probability"].column(f"pair.alignment.{edge}"))


@pytest.mark.parametrize("told", [3, {}, {"scale": "x", "bias": 0}, {"scale": 1.0, "bias": None}, {"scale": True}])
def test_a_recipe_without_numbers_for_probabilities_is_refused(told):
    with pytest.raises(CacheError, match=r"joint_edges in the recipe of pair.alignment is .*, expected scale and bias"):
        Probability.of({"joint_edges": told})


def test_probabilities_of_a_model_without_them_are_refused_at_planning(folders):
    with pytest.raises(
        ConfigError, match="--joint-edges probability: CLIP, the joint encoder without --joint, gives no"
    ):
        ExtractConfig(weights="random-tiny", joint_edges="probability")
    config = ExtractConfig(weights="random-tiny", joint_edges="probability", joint=f"local-dir:{folders['clip']}")
    with pytest.raises(ConfigError, match=r"--joint-edges probability: local-dir:/.* was trained to choose"):
        Encoders(config)


PARTS = ("entity.joint", "joint_token.joint", "mention.crops", "mention.joint_tokens")


def recipes(encoder):
    found = {part: dict(flat(encoder.recipe_of(part))) for part in PARTS}
    return {(part, name.rpartition("encoder.")[2]): value for part in found for name, value in found[part].items()}


def edit(change, file="open_clip_config.json"):
    """A function that edits a JSON file of a folder in place."""

    def edited(folder):
        found = json.loads((folder / file).read_text())
        change(found)
        models.write(folder / file, found)

    return edited


def edit_model(**values):
    return edit(lambda told: told["model_cfg"].update(values))


edit_weights = partial(edit_state, file="open_clip_model.safetensors")


def edit_tower(part, **values):
    return edit(lambda told: told["model_cfg"][part].update(values))


def on(leaf, parts=PARTS[:3]):
    return {(part, leaf) for part in parts}


@pytest.mark.parametrize(
    ("change", "options", "leaves"),
    [
        (edit_weights(lambda s: s["text.ln_final.bias"].add_(1)), {}, on("weights")),
        (edit_weights(lambda s: s["logit_scale"].add_(1)), {}, on("weights") | on("logits.scale")),
        (edit_weights(lambda s: s["logit_bias"].add_(1)), {}, on("weights") | on("logits.bias")),
        (edit_tower("text_cfg", norm_kwargs={"eps": 1e-3}), {}, on("config")),
        (edit_tower("vision_cfg", timm_drop=0.5), {}, set()),
        (edit_model(init_logit_bias=-5), {}, set()),
        (edit(lambda told: told["preprocess_cfg"].update(mean=[0.4] * 3)), {}, on("image.mean")),
        (edit(lambda told: told["preprocess_cfg"].update(resize_mode="shortest")), {}, on("image.resize_mode")),
        (edit(lambda told: told["preprocess_cfg"].update(interpolation="bilinear")), {}, on("image.interpolation")),
        (edit_tower("text_cfg", tokenizer_kwargs={"clean": "lower"}), {}, on("tokenizer", PARTS)),
        (
            edit(lambda told: told.update(normalizer={"type": "Lowercase"}), "tokenizer.json"),
            {},
            on("tokenizer", PARTS),
        ),
        (None, {"joint_weights": "random-full"}, on("weights") | on("logits.scale")),
        (None, {"text_batch": 7}, on("batch")),
        (None, {"image_batch": 7}, on("batch")),
    ],
)
def test_what_decides_the_numbers_stands_in_a_leaf_of_its_own(folders, copied, change, options, leaves):
    folder = copied("siglip")
    if change is not None:
        change(folder)
    before, after = recipes(local(folders["siglip"])), recipes(local(folder, **options))
    assert before.keys() == after.keys()
    assert {leaf for leaf in before if before[leaf] != after[leaf]} == leaves


def test_libraries_size_limit_and_precision_stand_in_the_recipe(folders):
    encoder = local(folders["bert"])
    major = [version.partition(".")[0] for version in (open_clip.__version__, transformers.__version__)]
    assert encoder.recipe["library"] == "open_clip {}, transformers {}".format(*major)
    assert local(folders["siglip"]).recipe["library"].endswith(f"timm {timm.__version__.partition('.')[0]}")
    told = [encoder.recipe[name] for name in ("encoder", "limit", "compute")]
    assert told == ["open_clip CustomTextCLIP", 20, "fp32"]
    assert encoder.recipe["image"]["size"] == [32, 32]


def test_another_text_tower_is_another_config(copied):
    folder = copied("bert")
    before = local(folder).recipe["config"]
    shutil.copytree(folder / "tower", folder / "other")
    edit(lambda told: told.update(layer_norm_eps=1e-3), "config.json")(folder / "other")
    edit_tower("text_cfg", hf_model_name="other")(folder)  # in the model's own folder
    assert local(folder).recipe["config"] != before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["random-tiny", "random-full"])
def test_random_weights_are_of_the_same_classes(folders, library, family, kind):
    one, two = (local(folders[family], joint_weights=kind) for _ in range(2))
    assert one.width == (64 if kind == "random-tiny" else WIDTH[family])
    assert (one.encode_texts(["harbor"]) == two.encode_texts(["harbor"])).all()
    assert (one.encode_images(pictures()[:1]) == two.encode_images(pictures()[:1])).all()
    towers = [
        [
            PLAIN.get(type(part), type(part))
            for part in (m, m.visual, *(m.text.children() if hasattr(m, "text") else ()))
        ]
        for m in (one.model, library(family)[0])
    ]
    assert towers[0] == towers[1] and kind in one.recipe["weights"]


TINY = ("ViT-L-14-quickgelu:openai", "RN50:openai", "convnext_base", "PE-Core-S-16-384", "EVA02-B-16", "MobileCLIP-S1")


@pytest.mark.parametrize("spec", TINY)
def test_models_of_open_clips_own_become_toys_of_their_classes(spec):
    encoder = named(spec, joint_weights="random-tiny")
    assert encoder.encode_images(pictures()[:1]).shape == encoder.encode_texts(["harbor"]).shape == (1, 64)
    assert encoder.encode_texts(["harbor"]).any()
    assert sum(parameter.numel() for parameter in encoder.model.parameters()) < 2e7


@pytest.mark.parametrize("kind", ["random-tiny", "random-full"])
@pytest.mark.parametrize("spec", ["ViT-B-16-SigLIP2:webli", "ViT-B-16-SigLIP:webli"])
def test_a_tokenizer_that_is_not_to_be_had_is_a_toy_where_weights_are_random(offline, spec, kind, capsys):
    encoder = named(spec, joint_weights=kind)
    wanted = open_clip.get_model_config(spec.partition(":")[0])["text_cfg"]["hf_tokenizer_name"]
    assert f"the tokenizer {wanted!r} is not to be had: as weights are random, a toy of" in capsys.readouterr().err
    counts = [encoder.count(text, 64) for text in ("harbor", "harbor castle", "harbor castle \u6771\u4eac")]
    assert counts[0] < counts[1] < counts[2] and encoder.is_cut("harbor " * 80)
    assert encoder.ids(["harbor"]).shape == (1, encoder.recipe["limit"])
    if kind == "random-tiny":
        assert encoder.encode_texts(["harbor", "castle"]).shape == (2, 64)


def test_with_trained_weights_a_tokenizer_that_is_not_to_be_had_is_named_as_one(offline, copied):
    folder = copied("siglip")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        WeightsError, match="the tokenizer of the joint encoder is words, and there is no tokenizer words"
    ):
        local(folder)


def code_of_its_own(folder):
    edit_tower("text_cfg", hf_model_name="tower")(folder)
    edit(lambda told: told.update(model_type="mine", auto_map={"AutoModel": "x.Y"}), "config.json")(folder / "tower")


def special(count):
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * count + [{"Sequence": {"id": "A", "type_id": 0}}]
    return edit(lambda told: told["post_processor"].update(single=single), "tokenizer.json")


def tower_of(**changes):
    def change(folder):
        edit_tower("text_cfg", hf_model_name="tower")(folder)
        edit(lambda told: told.update(changes), "config.json")(folder / "tower")

    return change


BAD = {
    "no config": ("clip", remove("open_clip_config.json"), "holds no model of open_clip: it has no open_clip_config"),
    "a text encoder": ("bert", lambda f: shutil.copy(f / "tower/config.json", f) and remove("open_clip_config.json")(f),
        "Its config.json is of 'bert', which may be for --text"),
    "no JSON": ("clip", written("open_clip_config.json", "{"), "cannot read .*open_clip_config.json"),
    "no model": ("clip", edit(lambda told: told.pop("model_cfg")), "has no object model_cfg"),
    "no texts": ("clip", edit(lambda told: told["model_cfg"].pop("text_cfg")), r"has no tower for texts \(text_cfg\)"),
    "captions": ("clip", edit_model(multimodal_cfg={}), "is a CoCa, which writes captions"),
    "huge": ("clip", edit_tower("text_cfg", width=1 << 40), "width is 1,099,511,627,776, which no model has"),
    "deep": ("clip", edit_tower("vision_cfg", layers=1 << 12), "layers is 4,096, which no model has"),
    "stages": ("clip", edit_tower("vision_cfg", layers=[100] * 4), "layers is 400, which no model has"),
    "deeper than its weights": ("clip", edit_tower("text_cfg", layers=200), r"weights for \[2, 200, 0\] layers"),
    "larger": ("clip", edit_tower("vision_cfg", width=1 << 12), "numbers where the model has"),
    "wide": ("clip", edit_tower("vision_cfg", mlp_ratio=1e4), "numbers where the model has"),
    "an option": ("clip", edit_tower("text_cfg", mine=1), "no model that open_clip can build.*'mine'"),
    "a type": ("clip", edit_model(embed_dim="x"), "embed_dim is 'x', expected the width"),
    "unknown tower": ("siglip", edit_tower("vision_cfg", timm_model_name="vit_x"), "for 'vit_x', which timm"),
    "tower on the Hub": ("siglip", edit_tower("vision_cfg", timm_model_name="hf-hub:a/b"), "for 'hf-hub:a/b'"),
    "code of its own": ("bert", code_of_its_own, "family 'mine', and needs code of its own .* does not run. Expected"),
    "code of the tokenizer": (
        "siglip", edit_tower("text_cfg", tokenizer_kwargs={"trust_remote_code": True}), "expected of it clean, st"
    ),
    "random words": ("clip", edit_tower("text_cfg", tokenizer_kwargs={"reduction_mask": "random"}), "of it clean al"),
    "no tokenizer": ("siglip", remove("tokenizer.json"), "the tokenizer of the joint encoder is words, and"),
    "broken tokenizer": ("siglip", written("tokenizer.json", '{"model": 3}'), "does not hold a tokenizer"),
    "many special tokens": ("multilingual", special(40), "does not hold a tokenizer of .*tensor"),
    "endless": ("clip", edit_tower("text_cfg", context_length=1 << 14), "16384 tokens in mode None"),
    "large pictures": ("clip", edit_tower("vision_cfg", image_size=1 << 14), "more than 2,048 pixels a side"),
    "no pooling": ("clip", edit_tower("vision_cfg", pool_type="none"), r"makes \(1, 5, 20\) of a text or a picture"),
    "no end": ("multilingual", edit_tower("text_cfg", eos_id=None), "eos_id is None, and its tokenizer has no such"),
    "an end elsewhere": ("multilingual", edit_tower("text_cfg", eos_id=1 << 20), "eos_id is 1048576, and its tokeni"),
    "an end before": ("multilingual", edit_tower("text_cfg", eos_id=-1), "eos_id is -1, and its tokenizer has no su"),
    "lines": ("bert", edit_tower("text_cfg", hf_model_name="a\nb"), r"tower of the joint encoder is 'a\\nb', expected"),
    "long": ("bert", edit_tower("text_cfg", hf_model_name="x" * 999), "tower of the joint encoder is .x+.*, expected"),
    "a type of the tower": ("bert", tower_of(hidden_size="x"), "does not hold a config.json of bert: .*hidden_size"),
    "a type of family": ("bert", tower_of(model_type=["bert"]), r"is of family \['bert'\]. Expected one that open"),
    "a deep tower": ("bert", tower_of(num_hidden_layers=1 << 20), "layers is 1,048,576, which no model has"),
    "a deeper tower": ("bert", tower_of(num_hidden_layers=250), r"weights for \[2, 0, 250\] layers"),
    "a huge tower": ("bert", tower_of(vocab_size=10**400), "vocab_size is 1[,0]+, which no model has"),
    "labels": ("bert", tower_of(num_labels=1 << 21), "num_labels is 2097152, which no bert has"),
    "true": ("clip", edit_model(embed_dim=True), "embed_dim is True, expected the width"),
    "pictures": ("clip", edit(lambda told: told.update(preprocess_cfg={"resize_mode": "x"})), "pictures cannot be"),
    "no weights": ("clip", remove("open_clip_model.safetensors"), "no weights in .*expected open_clip_model"),
    "no safetensors": ("clip", written("open_clip_model.safetensors", "no"), "does not hold the weights of"),
    "no scale": ("clip", edit_weights(lambda s: s.pop("logit_scale")), "its logits have no scale"),
    "no number": ("clip", edit_weights(lambda s: s["logit_scale"].fill_(torch.nan)), "its logits have scale nan"),
    "codes": ("clip", edit_weights(lambda s: s.update({k: v.to(torch.int8) for k, v in s.items()})), "torch.int8,"),
    "complex": ("clip", edit_weights(lambda s: s.update({WORDS: s[WORDS].to(torch.complex64)})), "torch.complex64"),
    "lost weight": ("clip", edit_weights(lambda s: s.pop("ln_final.bias")), "does not hold .*ln_final.bias"),
    "foreign weight": ("clip", edit_weights(lambda s: s.update(x=torch.zeros(2))), 'does not hold the weights .*"x"'),
    # open_clip itself resizes the first two, and takes zeros for the third
    "positions": ("clip", edit_tower("text_cfg", context_length=14), "does not hold .*positional_embedding"),
    "grid": ("clip", edit_tower("vision_cfg", image_size=64), "does not hold .*positional_embedding"),
    "no bias": ("siglip", edit_weights(lambda s: s.pop("logit_bias")), "does not hold the weights of .*logit_bias"),
    "few words": ("multilingual", lambda f: (edit_tower("text_cfg", vocab_size=2)(f), edit_weights(
        lambda s: s.update({WORDS: s[WORDS][:2].clone()}))(f)), "cannot encode a text"),
    "few positions": ("bert", edit_tower("text_cfg", context_length=99), "cannot encode a text and a picture"),
}  # fmt: skip


WORDS = "token_embedding.weight"


@pytest.mark.parametrize("case", BAD)
def test_a_model_that_cannot_be_used_is_one_line(copied, case):
    family, change, message = BAD[case]
    folder = copied(family)
    change(folder)
    with refused(message):
        local(folder).encode_texts(["harbor castle"])


def test_what_a_config_has_returned_beside_vectors_changes_none(folders, copied):
    folder = copied("clip")
    for tower in ("vision_cfg", "text_cfg"):
        edit_tower(tower, output_tokens=True)(folder)
    plain, other = local(folders["clip"]), local(folder)
    assert plain.recipe == other.recipe
    assert (plain.encode_texts(["harbor"]) == other.encode_texts(["harbor"])).all()
    assert (plain.encode_images(pictures()) == other.encode_images(pictures())).all()


def test_random_weights_that_no_memory_holds_are_one_line(copied, monkeypatch):
    folder = copied("clip")
    edit_tower("vision_cfg", width=1 << 12)(folder)
    monkeypatch.setattr(memory, "free", lambda: 1 << 28)
    with pytest.raises(WeightsError, match=r"random weights of .*clip take 1,6.* bytes, and 268,435,456 are free"):
        local(folder, joint_weights="random-full").encode_texts(["harbor"])


NAMES = {
    "ViT-L-41:openai": r"open_clip 3.* has no model ViT-L-41; there are ViT-L-14, .*\(did you mean ViT-L-16\?\)",
    "x": "open_clip 3.* has no model x. Expected model:pretrained, hf-hub:ORG/NAME or local-dir:FOLDER",
    "ViT-L-14:opanai": r"--joint ViT-L-14:opanai: which weights .* there are openai, .* \(did you mean openai\?\)",
    "ViT-L-14": "--joint ViT-L-14: which weights of open_clip's",
    "coca_ViT-B-32:laion2b_s13b_b90k": "is a CoCa",
    "hf-hub:": "--joint hf-hub:: expected",
    "local-dir:/absent": "--joint local-dir:/absent: no folder at /absent",
    "hf-hub:nobody/nothing": r"not in the download cache, and not to be had at .*/nobody/nothing \(.*cannot be reached",
    "ViT-L-14:openai": r"no weights of ViT-L-14:openai: .*huggingface.co/.*\(.*cannot be reached",
    "ViT-B-16-SigLIP2:webli": "no weights of ViT-B-16-SigLIP2:webli",
}


@pytest.mark.parametrize("spec", NAMES)
def test_a_name_that_is_none_or_without_network_is_one_line(spec, offline):
    options = {"joint_weights": "random-tiny"} if spec.startswith("coca") else {}
    with pytest.raises((WeightsError, ConfigError), match=NAMES[spec]) as error:
        named(spec, **options)
    assert "\n" not in str(error.value)


def test_a_folder_without_its_prefix_is_told_how(folders):
    with pytest.raises(ConfigError, match=r"is a folder: say local-dir:"):
        named(folders["clip"])


def test_a_folder_of_weights_is_looked_into_by_name(folders, tmp_path):
    shutil.copytree(folders["siglip"], tmp_path / "all" / "tiny")
    weights = sources.parse(str(tmp_path / "all"))
    config = ExtractConfig(joint="hf-hub:someone/tiny", weights=str(tmp_path / "all"))
    found = NamedJoint(config, weights, CPU).recipe
    assert found["weights"] == local(folders["siglip"]).recipe["weights"]
    with pytest.raises(WeightsError, match=r"--joint hf-hub:someone/other: no folder at .*all"):
        NamedJoint(ExtractConfig(joint="hf-hub:someone/other", weights=str(tmp_path / "all")), weights, CPU)
    with pytest.raises(WeightsError, match=r"no weights of ViT-L-14: looked at .*all"):
        NamedJoint(ExtractConfig(joint="ViT-L-14:openai", weights=str(tmp_path / "all")), weights, CPU)


def test_weights_trained_with_quick_gelu_get_it_under_the_plain_name():
    """open_clip itself warns and takes GELU."""
    plain, quick = (named(f"{name}:openai", joint_weights="random-tiny") for name in ("ViT-B-32", "ViT-B-32-quickgelu"))
    assert plain.recipe == quick.recipe
    other = named("ViT-B-32:laion2b_s34b_b79k", joint_weights="random-tiny")
    assert other.recipe["config"] != plain.recipe["config"]


def test_no_model_of_the_library_loses_its_quick_gelu():
    """roberta-ViT-B-32 has it of its own config, which its tag does not repeat."""
    random = sources.Weights("random-tiny")
    for model, tag in open_clip.list_pretrained():
        if not model.startswith("coca"):
            own = open_clip.get_model_config(model).get("quick_gelu", False)
            trained = own or open_clip.pretrained.get_pretrained_cfg(model, tag).get("quick_gelu", False)
            assert open_clip_files.find(f"{model}:{tag}", random).config["quick_gelu"] is trained, f"{model}:{tag}"


def test_code_beside_a_model_is_not_run(copied, tmp_path):
    folder = copied("siglip")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    own = {"AutoTokenizer": ["mine.Words", "mine.Words"]}
    edit(lambda told: told.update(auto_map=own), "tokenizer_config.json")(folder)
    assert local(folder).encode_texts(["harbor"]).any()
    assert not (tmp_path / "ran").exists()


NAMED = ("Rome", "Paris", "Lima")
BOTH_SIDES = ("joint_token.states", "entity_joint_token.states", "mention.patches")


def unprojected(model, transform, tokenizer, text, image):
    """Tokens' states and a picture's patches as open_clip's towers give them when they are asked for tokens."""
    inner = getattr(model, "text", None)
    with torch.inference_mode():
        if inner is None:
            outputs = model.forward_intermediates(text=tokenizer([text]), text_indices=1, normalize_intermediates=True)
            states = outputs["text_intermediates"][0][0]
        elif hasattr(inner, "pooler"):
            ids = tokenizer([text])
            states = inner.transformer(ids, attention_mask=(ids != inner.config.pad_token_id).long())[0][0]
        else:
            inner.output_tokens = True
            states, inner.output_tokens = inner(tokenizer([text]))[1][0], False
        seen = model.forward_intermediates(
            image=transform(image)[None], image_indices=1, normalize_intermediates=True, image_output_fmt="NCHW"
        )["image_intermediates"][0][0]
    return states.numpy(), seen.flatten(1).T.numpy()


@pytest.mark.parametrize("family", ["clip", "siglip", "bert"])
@pytest.mark.usefixtures("toys_built_once")
def test_tokens_and_patches_of_both_sides_are_the_towers_own(folders, library, release, tmp_path, family):
    asked = {"joint": f"local-dir:{folders[family]}", "heads": BOTH_SIDES, "shard_rows": 2}
    reader = melcache.open(pipeline.run(extract_config(release, tmp_path / "shards", **asked)))
    encoder, near = local(folders[family]), {"atol": 4e-3, "rtol": 4e-3}
    sides = {
        "mention": ("joint_token", ["Rome by night", "Paris by night"], [None, "1.png"]),
        "entity": ("entity_joint_token", [f"{name}: a city" for name in NAMED], ["0.png", None, None]),
    }
    for side, (table, texts, files) in sides.items():
        patches, states = (reader.column(f"{name}.vector") for name in (f"{side}.patches", f"{table}.states"))
        first, count = (reader.column(f"{side}.joint_tokens.{name}") for name in ("first", "count"))
        assert first.tolist() == [0, *count.cumsum()[:-1]] and count.sum() == len(states)
        assert reader.column(f"{side}.patches.present").tolist() == [file is not None for file in files]
        for row, (text, file) in enumerate(zip(texts, files, strict=True)):
            path = release / "images" / str(file)
            image = images.neutral() if file is None else Image.open(path).convert("RGB")
            expected, grid = unprojected(*library(family), text, image)
            assert count[row] == encoder.count(text)
            np.testing.assert_allclose(states[first[row] :][: count[row]], expected[: count[row]], **near)
            np.testing.assert_allclose(patches[row], grid, **near)
    assert {"L": states.shape[1], "I": patches.shape[2], "G": patches.shape[1]} == encoder.sizes


@pytest.mark.parametrize("spec", ["RN50:openai", "convnext_base", "PE-Core-S-16-384", "ViT-B-32:openai"])
def test_sizes_of_patches_are_known_without_the_weights(spec):
    encoder = named(spec, joint_weights="random-tiny")
    sizes = encoder.sizes
    assert "model" not in vars(encoder)
    seen = encoder.columns(pictures()[:1], ["joint", "patches"])
    np.testing.assert_array_equal(seen["joint"]["image"], encoder.encode_images(pictures()[:1]))
    assert seen["patches"]["vector"].shape == (1, sizes["G"], sizes["I"])
    (states,) = encoder.token_columns(["harbor"], ["states"])
    assert states["states"].shape == (encoder.count("harbor"), sizes["L"])


HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from train.heads.base import Head
READS = tuple(f"{part}.vector" for part in (
    "mention.patches", "entity.patches", "joint_token.states", "entity_joint_token.states"
))

@dataclass(frozen=True)
class Config:
    joint_text_width: int = 1
    joint_image_width: int = 1

class Model(Head):
    def __init__(self, config):
        super().__init__()
        self.text, self.image = nn.Linear(config.joint_text_width, 4), nn.Linear(config.joint_image_width, 4)

    def forward(self, batch, projected=None):
        text = [self.text(batch[f"{name}.states.vector"]).mean(-2) for name in ("joint_token", "entity_joint_token")]
        image = [self.image(batch[f"{name}.patches.vector"]).mean(-2) for name in ("mention", "entity")]
        scores = sum((mention[..., None, :] * entity).sum(-1) for mention, entity in (text, image))
        assert batch["entity_joint_token.states.present"].shape == batch["entity_joint_token.states.vector"].shape[:-1]
        return scores.masked_fill(~batch.present, -torch.inf)

    def loss(self, scores, batch):
        return -torch.log_softmax(scores, -1).gather(-1, batch.gold.clamp(min=0)[..., None]).mean()
"""


@pytest.mark.usefixtures("toys_built_once", "heads_forgotten")
def test_a_head_of_ones_own_learns_from_tokens_and_patches_of_both_sides(folders, tmp_path):
    splits = ("train", "train", "valid", "test")
    mentions = [mention_record(i, f"Rome {i} by night", "Rome", "0.png", split=name) for i, name in enumerate(splits)]
    entities = [entity_record(i, name, "a city " * (i + 1), "0.png") for i, name in enumerate(("Rome", "Rom", "Lima"))]
    write_pictures(tmp_path / "release", {"0.png": (40, 30)})
    data = write_release(tmp_path / "release", mentions, entities)
    (tmp_path / "both_sides.py").write_text(HEAD)
    path = pipeline.run(extract_config(data, tmp_path / "shards", heads=("clip",)))
    asked = ["--model", str(tmp_path / "both_sides.py"), "--dataset", str(path), "--run", str(tmp_path / "run")]
    asked += ["--device", "cpu", "--epochs", "2"]
    refused = CliRunner().invoke(app, asked).output
    wanted = re.search(r"lacks the parts .* Compute them: .*?--for (\S+),", " ".join(refused.split()))[1].split(",")
    pipeline.run(extract_config(data, tmp_path / "shards", heads=tuple(wanted)))
    run = CliRunner().invoke(app, asked)
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["model"] == "both_sides" and found["seeds"][0]["test"]["top1"] in (0, 1)


# --- one rule of weights for all four roles: docs/encoders.md

OPTION = {"text": "text", "image": "image", "joint": "joint", "objects": "detector"}


def saved(role, folder):
    """Write a tiny model that fills a role into a folder, and return its file of weights."""
    if role == "text":
        models.save("bert", folder)
    elif role == "image":
        _hub.save_for_hf(timm.create_model("test_vit"), folder, safe_serialization=True)
    elif role == "joint":
        joint_models.save("clip", folder)
    else:
        detector_models.save("detr", folder)
    [file] = folder.glob("*.safetensors")
    return file


def of_weights(role, name, **options):
    """Return what the recipe of a role's encoder says of its weights."""
    prefix = "local-dir:" if role == "joint" else ""
    given = {OPTION[role]: f"{prefix}{name}"} | {f"{OPTION[role]}_weights": options.pop("own", None)} | options
    config = ExtractConfig(**{"weights": "random-tiny", "device": "cpu"} | given)
    return Encoders(config).by_role[role].recipe["weights"]


@pytest.mark.parametrize("role", OPTION)
def test_a_folder_of_weights_given_for_a_role_has_its_weights_and_others_say_nothing_of_a_folder(role, tmp_path):
    """What digest stands in the recipe is hashed here, of files that differ in one number."""
    file = saved(role, tmp_path / "mine")
    others, named = tmp_path / "others", tmp_path / "others/mine"
    for number, place in enumerate((others, named), 1):
        place.mkdir()
        state = load_file(file)
        next(iter(state.values())).flatten()[0] += number
        save_file(state, place / file.name, {"format": "pt"})
    digest = {
        place: hashlib.sha256((place / file.name).read_bytes()).hexdigest() for place in (file.parent, others, named)
    }
    assert len(set(digest.values())) == 3
    assert of_weights(role, file.parent) == digest[file.parent]
    assert of_weights(role, file.parent, own=str(others)) == digest[named]
    (named / file.name).unlink()
    assert of_weights(role, file.parent, own=str(others)) == digest[others]
    (others / file.name).unlink()
    with pytest.raises(WeightsError, match=f"no weights .*{others}") as error:
        of_weights(role, file.parent, own=str(others))
    assert "\n" not in str(error.value)


def test_the_documents_name_the_files_of_a_models_folder():
    text = (Path(__file__).parents[2] / "docs/encoders.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in text.split("## Files and weights")[1].splitlines()[:7]}
    weights = hub_files.WEIGHTS[::2]
    needed = {
        "text": ("config.json", *TOKENIZERS[:3], *weights, "modules.json"),
        "image": ("config.json", *timm_files.FILES, timm_files.HUB),
        "joint": (open_clip_files.CONFIG, *open_clip_files.WEIGHTS, TOKENIZERS[0]),
        "objects": ("config.json", *PROCESSORS, *weights),
    }
    for role, names in needed.items():
        assert [name for name in names if name not in rows[role]] == [], role


@pytest.mark.parametrize("role", OPTION)
def test_weights_of_the_papers_encoders_are_not_those_of_a_model_in_a_folder(role, tmp_path):
    folder, there = {OPTION[role]: str(tmp_path)}, str(tmp_path / "papers")
    assert ExtractConfig(**folder, weights=there).weights_of(role) == "pretrained"
    assert ExtractConfig(**folder, weights=there, **{f"{OPTION[role]}_weights": "w"}).weights_of(role) == "w"
    name = {OPTION[role]: "someone/else"}
    assert ExtractConfig(**name, weights=there).weights_of(role) == there
