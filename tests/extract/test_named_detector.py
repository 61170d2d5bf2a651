"""Detectors by name: every family against transformers' own calls on one picture, classes, recipes and bad input."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

import cache as melcache
from common.errors import ConfigError, NotFiniteError, WeightsError
from extract import pipeline
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.compute import Compute
from extract.encoders.detection.categories import Categories
from extract.encoders.detection.named import NamedObjects
from extract.encoders.resnet import ResNet
from extract.weights import hub_files, sources
from tests.extract import detector_models
from tests.extract.bad_models import edit_json, edit_state, flat, refused, remove
from tests.extract.models import save, write
from tests.worlds import entity_record, extract_config, mention_record, write_release
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig
from train.heads.dwe_authors.config import DweAuthorsConfig

CPU = Compute(torch.device("cpu"), "fp32")


def picture(size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


PICTURES = [picture(size, i) for i, size in enumerate([(50, 40), (40, 50), (90, 60), (50, 40), (64, 64), (200, 20)])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a tiny detector by family; tests only read them."""
    place = tmp_path_factory.mktemp("models")
    return {name: detector_models.save(name, place / name) for name in detector_models.FAMILIES}


@pytest.fixture
def copied(folders, tmp_path):
    """A function that copies a family's folder, to be changed."""
    return lambda name: shutil.copytree(folders[name], tmp_path / name)


@pytest.fixture(scope="module")
def image():
    return ResNet(sources.parse("random-tiny"), CPU, 16)


@pytest.fixture
def named(image):
    """A function that makes the detector of a folder."""

    def made(folder, **options):
        config = ExtractConfig(detector=str(folder), weights="random-tiny", **options)
        return NamedObjects(config, sources.parse(config.weights_of("objects"), online=True), CPU, image)

    return made


def library(folder, image, threshold):
    """Return the boxes, scores and labels of a picture that transformers finds in it, best first."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=image, return_tensors="pt"))
    sizes = torch.tensor([[image.height, image.width]])
    (found,) = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes)
    best = sorted(range(len(found["scores"])), key=lambda i: -found["scores"][i].item())
    return [[found[name][i].tolist() for name in ("boxes", "scores", "labels")] for i in best]


@pytest.mark.parametrize("family", detector_models.FAMILIES)
def test_objects_are_those_that_transformers_finds_in_the_picture_alone(folders, named, family):
    encoder = named(folders[family], objects=4)
    kept = dict(enumerate(detector_models.IDS)) if "rt_detr" in family else {i: i for i in detector_models.IDS}
    found = encoder.encode(PICTURES)
    assert encoder.counts == {"pictures": len(PICTURES)}
    for row, image in enumerate(PICTURES):
        expected = [one for one in library(folders[family], image, 0.05) if one[2] in kept][:4]
        assert expected
        for k, (box, score, label) in enumerate(expected):
            inside = [min(max(side, 0), (image.width, image.height)[i % 2]) for i, side in enumerate(box)]
            np.testing.assert_allclose(found["boxes"][row, k], inside, atol=1e-3)
            np.testing.assert_allclose(found["scores"][row, k], score, atol=1e-5)
            assert found["labels"][row, k] == kept[label]
        assert not found["labels"][row, len(expected) :].any() and not found["boxes"][row, len(expected) :].any()


def test_weights_go_by_their_published_names(folders):
    """As facebook/detr-resnet-50 has them; transformers calls its modules otherwise by now."""
    names = load_file(folders["detr"] / "model.safetensors").keys()
    for name in ("model.encoder.layers.0.self_attn.out_proj.weight", "model.decoder.layers.1.fc1.bias"):
        assert name in names
    assert any(name.startswith("model.backbone.conv_encoder.model.") for name in names)


def test_a_weak_object_is_none(copied, named):
    folder = copied("detr")
    edit_state(lambda state: state[BIAS][-1:].add_(10))(folder)  # of the class that stands for nothing
    scores = named(folder, objects=12).encode(PICTURES[:3])["scores"]
    assert scores.max() > 0.05 and not ((scores > 0) & (scores <= 0.05)).any() and (scores == 0).any()


def test_a_picture_thinner_than_a_patch_is_detected_and_boxes_lie_in_it(folders, named):
    for family in ("yolos", "detr"):
        found = named(folders[family], detector_weights="random-tiny").encode(
            [picture((100, 2), 1), picture((2, 90), 2)]
        )
        assert (found["boxes"][0] <= [100, 2, 100, 2]).all() and (found["boxes"][1] <= [2, 90, 2, 90]).all()


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        ({0: "N/A", 1: "person", 2: "bicycle"}, [0, 1, 2]),
        ({0: "person", 1: "motorbike", 2: "pottedplant", 3: "hair_dryer", 4: "Tv Monitor"}, [1, 4, 64, 89, 72]),
        ({0: "table", 1: "table rotated"}, [91, 92]),
        ({0: "lamp", 1: "Person", 2: "no-object", 3: "sofa"}, [91, 1, 0, 63]),
        ({0: "LABEL_0", 1: "LABEL_1"}, [91, 92]),
        (detector_models.ALL, [i if i in detector_models.IDS else 0 for i in range(91)]),
        (detector_models.EIGHTY, detector_models.IDS),
    ],
)
def test_categories_are_coco_s_by_name_and_others_stand_behind_them(tmp_path, names, stored):
    assert Categories(names, tmp_path).stored.tolist() == stored


def test_persons_of_a_model_with_classes_of_its_own_stay_persons(copied, named):
    """A box of 'lamp' is no person to heads, though the model's own number of it is 1."""
    folder = copied("detr")
    names = {str(i): "person" if i == 56 else "N/A" if i == 31 else f"thing {i}" for i in range(91)}
    write(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"id2label": names})
    raw = {one[2] for image in PICTURES for one in library(folder, image, 0.05)}
    assert {56, 31} < raw
    labels = named(folder, objects=12).encode(PICTURES)["labels"]
    assert set(labels[labels > 0].tolist()) == {1, *(91 + i for i in raw - {56, 31})}
    assert "COCO's by name, 89 others as 91 + the model's number" in named(folder).recipe["labels"]


CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
BIAS = "class_labels_classifier.bias"
BOX = "bbox_predictor.layers.2.bias"
OTHER = {str(i): f"thing {i}" for i in range(91)}


@pytest.mark.parametrize(
    ("change", "options", "leaves"),
    [
        (edit_state(lambda state: state[BIAS].add_(1)), {}, {"weights"}),
        (edit_json(CONFIG, activation_function="gelu"), {}, {"config"}),
        (edit_json(CONFIG, id2label=OTHER), {}, {"labels"}),
        (edit_json(CONFIG, id2label=OTHER | {"1": "thing"}), {}, {"labels"}),
        (edit_json(PROCESSOR, image_mean=[0.5, 0.5, 0.5]), {}, {"processor"}),
        (edit_json(PROCESSOR, size={"height": 64, "width": 64}), {}, {"processor"}),
        (edit_json(PROCESSOR, image_processor_type="YolosImageProcessor"), {}, {"processor"}),
        (edit_json(CONFIG, _name_or_path="x", transformers_version="9"), {}, set()),
        (edit_json(PROCESSOR, processor_class="x"), {}, set()),
        (None, {"objects": 2}, {"objects"}),
        (None, {"detector_weights": "random-full"}, {"weights", "threshold"}),
        (None, {}, set()),
    ],
)
def test_what_decides_the_objects_stands_in_a_leaf_of_its_own(folders, copied, named, change, options, leaves):
    folder = copied("detr")
    if change is not None:
        change(folder)
    before, after = (dict(flat(e.recipe)) for e in (named(folders["detr"]), named(folder, **options)))
    assert {leaf for leaf in after if after[leaf] != before[leaf]} == leaves and before.keys() == after.keys()


def test_two_sets_of_own_classes_that_are_numbered_alike_differ(tmp_path):
    one, two = (Categories({0: name}, tmp_path) for name in ("table", "chart"))
    assert one.said != two.said and (one.stored == two.stored).all()


def test_class_library_attention_and_image_encoder_are_in_the_recipe(folders, named, image):
    for family, made in detector_models.CLASS.items():
        recipe = named(folders[family]).recipe
        assert recipe["encoder"] == f"AutoModelForObjectDetection {made}" and recipe["attention"] == "sdpa"
        assert recipe["library"] == f"transformers {transformers.__version__.split('.')[0]}"
        assert recipe["resnet"] == image.recipe and recipe["compute"] == "fp32"
    assert re.fullmatch("[0-9a-f]{64}", recipe["weights"])


@pytest.mark.parametrize("family", detector_models.FAMILIES)
@pytest.mark.parametrize("kind", ["random-tiny", "random-full"])
def test_random_weights_are_of_the_same_class(folders, named, family, kind):
    one, two = (named(folders[family], detector_weights=kind) for _ in range(2))
    first, second = (encoder.encode(PICTURES[:1]) for encoder in (one, two))
    assert all((first[name] == second[name]).all() for name in first) and first["scores"].all()
    assert type(one._model).__name__ == detector_models.CLASS[family] and kind in one.recipe["weights"]


@pytest.mark.parametrize("more", [{}, {"backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]}}])
def test_no_backbone_is_fetched(copied, named, monkeypatch, more):
    """DETR's own config.json asks for timm's pretrained ResNet-50; with backbone_kwargs transformers asks the Hub."""
    folder, asked = copied("detr"), []
    old = {"backbone": "resnet18", "use_timm_backbone": True, "use_pretrained_backbone": True, "backbone_config": None}
    old |= more
    edit_json(CONFIG, **old)(folder)
    encoder = named(folder, detector_weights="random-full")
    import timm

    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *names, **given: asked.append(given) or make(*names, **given))
    assert encoder.encode(PICTURES[:1])["scores"].all()
    assert asked and not any(given["pretrained"] for given in asked)
    assert all(given["out_indices"] == [1, 2, 3, 4] for given in asked)
    assert encoder.recipe["library"].startswith("transformers 5, timm ")


BAD = {
    "no config": ("detr", remove(CONFIG), WeightsError, r"cannot read .*config\.json"),
    "no processor": ("detr", remove(PROCESSOR), WeightsError, r"no image processor in .*preprocessor_config\.json"),
    "broken processor": (
        "detr", edit_json(PROCESSOR, size="x"), WeightsError, "does not hold an image processor"
    ),
    "processor of another kind": (
        "detr", edit_json(PROCESSOR, image_processor_type="CLIPImageProcessor"), WeightsError, "ImageProcessor, which"
    ),
    "code of its own": (
        "detr", edit_json(CONFIG, model_type="mine", auto_map={"AutoModel": "x.Y"}), WeightsError, "does not run"
    ),
    "family": ("detr", edit_json(CONFIG, model_type="mine"), WeightsError, "family 'mine', .* such as detr"),
    "no detector": ("detr", edit_json(CONFIG, model_type="vit"), WeightsError, "family vit, which detects no objects"),
    "huge": ("detr", edit_json(CONFIG, num_queries=1 << 40), WeightsError, "num_queries is 1099511627776"),
    "a type": ("detr", edit_json(CONFIG, num_queries="x"), WeightsError, "num_queries"),
    "layers": ("detr", edit_json(CONFIG, encoder_layers=1 << 20), WeightsError, "weights for 1,048,576 layers"),
    "layers of the decoder": ("detr", edit_json(CONFIG, decoder_layers=1 << 20), WeightsError, "for 1,048,576 layers"),
    "layers of stages": (
        "detr", edit_json(CONFIG, backbone_config=detector_models.RESNET | {"depths": [100] * 4}), WeightsError,
        "weights for 400 layers",
    ),
    "larger": ("detr", edit_json(CONFIG, d_model=1 << 11), WeightsError, "numbers where the model has"),
    "heads": ("detr", edit_json(CONFIG, encoder_attention_heads=5), WeightsError, "a detector that looks at pictures"),
    "dropout": ("detr", edit_json(CONFIG, dropout=5), WeightsError, "a detector that looks at pictures: dropout prob"),
    "deep": (
        "detr", edit_json(CONFIG, backbone_config=json.loads('{"a":' * 200 + "1" + "}" * 200)), WeightsError, "deeper"
    ),
    "hollow": ("detr", lambda f: os.truncate(f / "model.safetensors", 1 << 36), WeightsError, "not hold the weights"),
    "backbone on the Hub": (
        "rt_detr", edit_json(CONFIG, backbone_config={"model_type": "timm_backbone", "backbone": "hf-hub:a/b"}),
        WeightsError, "its backbone is 'hf-hub:a/b', expected the name of a model of timm",
    ),
    "backbone that is no name": (
        "detr", edit_json(CONFIG, backbone=["x"], backbone_config=None), WeightsError, r"its backbone is \['x'\], exp"
    ),
    "processor without numbers": (
        "detr", lambda f: (f / PROCESSOR).write_text('{"rescale_factor": NaN}'), WeightsError, "it holds NaN"
    ),
    "another processor's file": (
        "detr", lambda f: os.truncate(shutil.copy(f / PROCESSOR, f / "processor_config.json"), 1 << 30), WeightsError,
        "cannot read .*processor_config.json: more than",
    ),
    "large pictures": (
        "detr", edit_json(PROCESSOR, size={"height": 9000, "width": 9000}), WeightsError, "pictures of 9000 pixels"
    ),
    "padded pictures": (
        "detr", edit_json(PROCESSOR, pad_size={"height": 9000, "width": 9000}), WeightsError, "pictures of 9000 pixels"
    ),
    "pictures as they are": ("detr", edit_json(PROCESSOR, do_resize=False), WeightsError, "pictures of inf pixels"),
    "another model's backbone": (
        "detr",
        edit_json(CONFIG, backbone="microsoft/resnet-50", use_timm_backbone=False, backbone_config=None),
        WeightsError,
        "takes its backbone from another model, 'microsoft/resnet-50'. Expected backbone_config",
    ),
    "backbone_kwargs": (
        "detr",
        edit_json(CONFIG, backbone="resnet18", backbone_kwargs={"checkpoint_path": "x"}, backbone_config=None),
        WeightsError,
        "takes its backbone from another model, 'resnet18'.*than in_chans",
    ),
    "backbone of a family without": (
        "rt_detr",
        edit_json(CONFIG, backbone="resnet18", backbone_config=None),
        WeightsError,
        "takes its backbone from another model, 'resnet18'",
    ),
    "no weights": (
        "detr", remove("model.safetensors"), WeightsError, "no weights in .*--detector-weights random-tiny tries"
    ),
    "no safetensors": ("detr", lambda f: (f / "model.safetensors").write_text("x"), WeightsError, "not hold the w"),
    "lost weight": ("detr", edit_state(lambda s: s.pop(BIAS)), WeightsError, "lack 1 of DetrForObjectDetection"),
    "a shape": ("detr", edit_state(lambda s: s.update({BIAS: torch.zeros(3)})), WeightsError, "not hold the weights"),
    "another head": (
        "detr", edit_json(CONFIG, id2label={"0": "x", "1": "y"}), WeightsError, "not hold the weights of its config"
    ),
    "a layer more": (
        "detr", edit_json(CONFIG, decoder_layers=1), WeightsError, "have beyond its config.json 2. of DetrForObject"
    ),
    "NaN": ("detr", edit_state(lambda s: s[BIAS].fill_(torch.nan)), NotFiniteError, "gives NaN .*--precision fp32"),
    "NaN of boxes": ("detr", edit_state(lambda s: s[BOX].fill_(torch.nan)), NotFiniteError, "NaN .*--precision fp32"),
    "labels": ("detr", edit_json(CONFIG, num_labels=1 << 21, id2label=None), WeightsError, "num_labels is 2097152"),
    "weights of another family": (
        "yolos", lambda f: shutil.copy(f.parent / "detr.safetensors", f / "model.safetensors"), WeightsError, "lack "
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_model_that_cannot_be_used_is_one_line(folders, copied, named, case):
    family, change, kind, message = BAD[case]
    folder = copied(family)
    shutil.copy(folders["detr"] / "model.safetensors", folder.parent / "detr.safetensors")
    change(folder)
    with refused(message, kind):
        named(folder).encode(PICTURES[:1])


def test_a_text_model_is_no_detector(named, tmp_path):
    with pytest.raises(WeightsError, match=r"family bert, which detects no objects. Expected a detector, such as detr"):
        named(save("bert", tmp_path / "bert"))


def test_a_family_without_a_toy_says_which_have_one(copied, named):
    folder = copied("detr")
    edit_json(CONFIG, model_type="d_fine")(folder)
    with pytest.raises(WeightsError, match=r"family d_fine, of which there is no toy; there are detr, .*random-full"):
        named(folder, detector_weights="random-tiny")


def test_too_many_classes_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"id2label names 70,000 classes, expected at most 65,445, numbered from 0"):
        Categories(dict.fromkeys(range(70000), "x"), tmp_path)
    with pytest.raises(WeightsError, match="numbered from 0"):
        Categories({1: "x"}, tmp_path)


@pytest.mark.parametrize("name", ["./absent", "v3"])
def test_a_name_that_does_not_exist_is_one_line(name, monkeypatch):
    def unreachable(host):
        raise OSError(f"{host} cannot be reached")

    monkeypatch.setattr(hub_files, "reachable", unreachable)
    with pytest.raises(WeightsError, match=f"no detector {name}: ") as error:
        Encoders(ExtractConfig(detector=name, weights="random-tiny", device="cpu"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["detr", "rt_detr"])
@pytest.mark.usefixtures("toys_built_once")
def test_a_release_is_linked_with_the_detector_that_is_named(folders, named, tmp_path, family):
    (tmp_path / "release/images").mkdir(parents=True)
    for i, image in enumerate(PICTURES[:4]):
        image.save(tmp_path / f"release/images/{i}.png")
    entities = [entity_record(i, name, "a city", f"{i}.png") for i, name in enumerate(("Paris", "Rome", "Bonn"))]
    mentions = [
        mention_record(i, f"Rome {i}", "Rome", f"{i}.png", gold="e1", split=split)
        for i, split in enumerate(("train", "train", "valid", "test"))
    ]
    write_release(tmp_path / "release", mentions, entities)
    config = extract_config(
        tmp_path / "release", tmp_path / "shards", detector=str(folders[family]), heads=("dwe_authors",)
    )
    reader = melcache.open(pipeline.run(config))
    found = named(folders[family]).encode(PICTURES[:4])
    for column in ("boxes", "scores", "labels"):
        np.testing.assert_allclose(reader.column(f"mention.objects.{column}")[:], found[column], atol=1e-3)
    np.testing.assert_array_equal(reader.column("mention.crops.labels")[:], found["labels"])
    np.testing.assert_allclose(reader.column("mention.objects.summary")[:], found["summary"], atol=2e-3)
    assert detector_models.CLASS[family] in json.dumps(reader.manifest.parts["mention.objects"].recipe)
    for model, head in (("drin", DrinConfig(width=16)), ("dwe_authors", DweAuthorsConfig(attention_heads=2))):
        given = {"dataset": str(config.folder), "run": tmp_path / model, "model": model, "device": "cpu", "epochs": 1}
        assert 0 <= loop.fit(TrainConfig(**given), head)["mean"]["test"]["top1"] <= 1


def test_torchvision_s_detector_stays_as_it_is():
    assert ExtractConfig().named("objects") is None and ExtractConfig(detector="v2").named("objects") is None
    assert ExtractConfig(detector="facebook/detr-resnet-50").weights_of("objects") == "pretrained"
    with pytest.raises(ConfigError, match="--objects is 0"):
        ExtractConfig(detector="facebook/detr-resnet-50", objects=0)
