"""Image encoders by name: families of timm against timm itself, one picture at a time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from timm.models import _hub

import cache as melcache
from common.errors import ConfigError, WeightsError
from extract import pipeline
from extract.encoders import Encoders
from extract.encoders.compute import Compute
from extract.encoders.image import timm_files
from extract.encoders.image.named import NamedImage
from extract.encoders.image.named import _bounded as bounded
from extract.encoders.pixels import Pixels
from extract.weights.sources import Weights
from tests.extract.bad_models import edit_state, flat, refused
from tests.worlds import extract_config, write_cities
from train import loop
from train.config import TrainConfig, resolved
from train.heads.ghmfc.config import GhmfcConfig

CPU = Compute(torch.device("cpu"), "fp32")
TRAINED, TINY = Weights("pretrained"), Weights("random-tiny")
# by name: arguments that make a small one, and the side of its pictures
FAMILIES = {
    "resnet50": ({"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}, 64),
    "convnext_tiny": ({"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 24)}, 64),
    "vit_small_patch16_224": ({"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 48}, 48),
    "vit_small_patch14_reg4_dinov2": (
        {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 42, "init_values": 0.5},
        42,
    ),
    "vit_small_patch16_dinov3": ({"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 48}, 48),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "img_size": 64},
        64,
    ),
}
WIDTHS = dict(zip(FAMILIES, (32, 24, 24, 24, 24, 64), strict=True))
RESNET, REGISTERS = "resnet50", "vit_small_patch14_reg4_dinov2"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a small model by name, as timm writes it; tests only read them."""
    place = tmp_path_factory.mktemp("models")
    for name, (arguments, side) in FAMILIES.items():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained_cfg_overlay={"input_size": (3, side, side)}, **arguments)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value) * 0.05)
        _hub.save_for_hf(model, place / name, model_args=arguments, safe_serialization=True)
    return {name: place / name for name in FAMILIES}


@pytest.fixture
def copied(folders, tmp_path):
    """A function that copies a model's folder, to be changed."""
    return lambda name: shutil.copytree(folders[name], tmp_path / name)


def named(folder, weights=TRAINED, compute=CPU, batch=2):
    return NamedImage(str(folder), weights, compute, batch)


def pictures():
    sizes = ((90, 60), (48, 48), (30, 200))
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_and_regions_are_timms_own(folders, name):
    encoder = named(folders[name])
    images = pictures()
    pooled, regions = encoder.encode_regions(images)
    model = timm.create_model(f"local-dir:{folders[name]}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    assert pooled.shape == (3, WIDTHS[name]) and (encoder.width, encoder.regions) == regions.shape[:0:-1]
    for image, vector, places in zip(images, pooled, regions, strict=True):
        pixels = transform(image)[None]
        with torch.inference_mode():
            np.testing.assert_allclose(vector, model(pixels)[0], atol=1e-5)
            [grid] = model.forward_intermediates(pixels, indices=1, norm=True, intermediates_only=True)
        np.testing.assert_allclose(places, grid[0].permute(1, 2, 0).flatten(0, 1), atol=1e-5)
    assert (encoder.encode(images) == pooled).all() and encoder.encode([]).shape == (0, encoder.width)
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3
    assert encoder.counts == {"pictures": 6, "crops": 0}


def test_what_is_pooled_is_the_mean_of_the_regions_or_a_token_of_its_own(folders):
    images = pictures()
    for name, mean in ((RESNET, True), (REGISTERS, False)):
        pooled, regions = named(folders[name]).encode_regions(images)
        assert np.allclose(regions.mean(1), pooled, atol=1e-5) == mean
    tokens = named(folders[REGISTERS]).features(images)
    assert tokens.shape[1] == 1 + 4 + 9  # the class, the registers, the patches


def edit_config(**values):
    def edit(folder):
        path = folder / "config.json"
        found = json.loads(path.read_text())
        inner = {name: value for name, value in values.items() if name in found["pretrained_cfg"]}
        outer = {name: value for name, value in values.items() if name not in inner}
        found["pretrained_cfg"] |= inner
        path.write_text(json.dumps(found | outer))

    return edit


LEAVES = {
    "weights": (edit_state(lambda state: state["conv1.weight"].add_(1)), {}, {"weights"}),
    "arguments": (edit_config(model_args={"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8), "output_stride": 16}), {},
                  {"arguments"}),
    "architecture": (edit_config(architecture="resnet101"), {}, {"architecture"}),
    "side": (edit_config(input_size=[3, 96, 96]), {}, {"preprocessing.input_size"}),
    "mean": (edit_config(mean=[0.5, 0.5, 0.5]), {}, {"preprocessing.mean"}),
    "deviation": (edit_config(std=[0.5, 0.5, 0.5]), {}, {"preprocessing.std"}),
    "crop": (edit_config(crop_pct=0.7), {}, {"preprocessing.crop_pct"}),
    "crop's kind": (edit_config(crop_mode="squash"), {}, {"preprocessing.crop_mode"}),
    "resampling": (edit_config(interpolation="bilinear"), {}, {"preprocessing.interpolation"}),
    "remarks": (edit_config(license="mine", tag="mine", num_classes=7), {}, set()),
    "precision": (None, {"compute": replace(CPU, precision="bf16")}, {"compute"}),
    "batch": (None, {"batch": 3}, {"batch"}),
    "nothing": (None, {}, set()),
}  # fmt: skip


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_decides_the_numbers_stands_in_a_leaf_of_its_own(folders, copied, leaf):
    change, options, leaves = LEAVES[leaf]
    folder = copied(RESNET)
    if change is not None:
        change(folder)
    before, after = (dict(flat(encoder.recipe)) for encoder in (named(folders[RESNET]), named(folder, **options)))
    assert {name for name in after if after[name] != before[name]} == leaves and after.keys() == before.keys()
    json.dumps(after, allow_nan=False)


def test_pooling_library_and_layer_are_in_the_recipe(folders, monkeypatch):
    encoder = named(folders[REGISTERS])
    assert (encoder.recipe["encoder"], encoder.recipe["pooling"]) == (
        "timm VisionTransformer",
        "token, before the classifier",
    )
    assert named(folders["convnext_tiny"]).recipe["pooling"] == "avg, before the classifier"
    assert encoder.recipe_of("mention.regions") == encoder.recipe_of("mention.image") | {
        "layer": "last patch tokens but 5 before them, row by row"
    }
    monkeypatch.setattr(timm, "__version__", "2.1.0")
    assert encoder.recipe["library"] == "timm 1" and named(folders[REGISTERS]).recipe["library"] == "timm 2"


@pytest.mark.parametrize("name", FAMILIES)
def test_random_weights_are_of_the_class_that_is_named(folders, name):
    one, two = (named(name, TINY) for _ in range(2))
    assert type(one._model) is type(named(folders[name])._model) and one.regions in (4, 16)
    first, second = (encoder.encode(pictures()[:2]) for encoder in (one, two))
    assert (first == second).all() and np.abs(first[0] - first[1]).max() > 1e-3 and np.abs(first).max() < 100
    assert "random-tiny, seed 0" in one.recipe["weights"] and one.recipe["architecture"] == name
    full = named(name, Weights("random-full"))  # nothing is made before there is a picture
    assert full.width > 10 * WIDTHS[name] and full.recipe["arguments"] != one.recipe["arguments"]


def test_a_classifier_is_cut_off_however_many_classes_it_has(folders, copied):
    expected = named(folders[RESNET]).encode(pictures())
    folder = copied(RESNET)
    for edit in (
        lambda state: [state.pop(name) for name in ("fc.weight", "fc.bias")],
        lambda state: state.update({"fc.weight": torch.zeros(7, 32), "fc.bias": torch.zeros(7)}),
    ):
        edit_state(edit)(folder)
        assert (named(folder).encode(pictures()) == expected).all()


BAD = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "cannot read .*config.json"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("["), "cannot read .*config.json"),
    "transformers": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Q"]}'),
        "names no model of timm .*a family of transformers, qwen3",
    ),
    "no model": (edit_config(architecture="resnt50"), r"names no model of timm .*did you mean resnet50\?"),
    "argument": (edit_config(model_args={"girth": 3}), "cannot build it: .*girth"),
    "huge": (edit_config(model_args={"channels": [8, 8, 8, 1 << 40]}), "model_args say 1,099,511,627,776, which no"),
    "deep": (edit_config(model_args={"layers": [1, 1, 1, 1 << 19]}), "model_args say 524,288, which no resnet50"),
    "larger": (edit_config(model_args={}), "does not hold the weights of resnet50: .* numbers where the model has"),
    "channels": (edit_config(model_args={"in_chans": 1}), "reads 1 channels, and pictures here have 3"),
    "deviation": (edit_config(std=[0, 0, 0]), "cannot build it: std evaluated to zero"),
    "mean": (edit_config(mean="x"), "cannot build it"),
    "four means": (edit_config(mean=[0.5] * 4), "cannot build it"),
    "interpolation": (edit_config(interpolation="evil"), "cannot build it: 'evil'"),
    "crop": (edit_config(crop_pct=1e-9), "a share of 1e-09 of what"),
    "crop as text": (edit_config(crop_pct="x"), "cannot build it"),
    "endless picture": (edit_config(input_size=[3, 1 << 20, 1 << 20]), "it reads pictures of"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights for .*model.safetensors"),
    "no safetensors": (lambda folder: (folder / "model.safetensors").write_text("x"), "does not hold the weights"),
    "lost": (edit_state(lambda state: state.pop("layer1.0.conv1.weight")), 'Missing key.* "layer1.0.conv1'),
    "foreign": (edit_state(lambda state: state.update({"more": torch.zeros(2)})), 'Unexpected key.* "more'),
    "shape": (
        edit_state(lambda state: state.update({"bn1.bias": torch.zeros(2)})),
        "size mismatch for bn1.bias",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_holds_no_model_of_timm_is_one_line(copied, case):
    change, message = BAD[case]
    folder = copied(RESNET)
    change(folder)
    with refused(message):
        named(folder).encode(pictures())


@pytest.mark.parametrize("name", ["vit_small_patch16_224", REGISTERS, "swin_tiny_patch4_window7_224"])
def test_weights_for_pictures_of_another_size_are_refused(copied, name):
    """timm itself resizes their positions, or their table of them, and says nothing."""
    folder, (arguments, side) = copied(name), FAMILIES[name]
    more = {"window_size": 4} if name.startswith("swin") else {"img_size": 2 * side}
    edit_config(model_args=arguments | more, input_size=[3, 2 * side, 2 * side])(folder)
    with pytest.raises(WeightsError, match=r"does not hold the weights of .*: size mismatch for ") as error:
        named(folder).encode(pictures())
    assert "\n" not in str(error.value)


NAMES = {
    "resnt50": r"no model of this name \(did you mean resnet50\?\)",
    "bert-base-uncased": "no model of this name, .*models of transformers alone do not fill",
    "Qwen/Qwen3-Embedding-0.6B": "no model of this name, .*hf-hub:OWNER/NAME",
    "./absent": "no folder is there",
    "": "cannot read config.json",
    "local-dir:/absent": "no folder /absent",
    "resnet50.a1_in2k": r"no weights a1_in2k of resnet50: .*did you mean a1_in1k\?",
    "mixer_s32_224": "timm has no trained weights of it",
    "resnet50": r"not to be had at https://huggingface.co/timm/resnet50.a1_in1k \(huggingface.co cannot be reached",
    "legacy_seresnet18": "seresnet18-4bb0ce65.pth .github.com cannot be reached",
    "timm/resnet18.a1_in1k": "no image encoder timm/resnet18.a1_in1k: .*cannot be reached",
    "hf-hub:nobody/nothing": "no image encoder nobody/nothing: .*cannot be reached",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_no_model_or_without_network_is_one_line(name, monkeypatch, tmp_path):
    def unreachable(host):
        raise OSError(f"{host} cannot be reached")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timm_files, "reachable", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", not_there)
    with pytest.raises(WeightsError, match=NAMES[name]) as error:
        named(name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def not_there(repository, name, **given):
    raise LocalEntryNotFoundError(f"{repository}/{name}")


@pytest.mark.parametrize("name", ["timm/vit_small_patch14_reg4_dinov2.lvd142m", "hf-hub:mine/own"])
def test_a_model_of_the_hub_is_read_from_its_cache(folders, monkeypatch, name):
    asked = []

    def cached(repository, name, **given):
        asked.append((repository, name, given["local_files_only"]))
        return str(folders[REGISTERS] / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    encoder = named(name)
    assert encoder.recipe == named(folders[REGISTERS]).recipe
    repository = name.removeprefix("hf-hub:")
    assert asked == [(repository, "config.json", True), (repository, "model.safetensors", True)]


def test_a_name_of_timm_takes_the_file_that_timm_takes(folders, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repository, name, **given: f"/cache/{repository}/{name}"
    )
    found = timm_files.find("vit_small_patch14_dinov2", TRAINED)
    assert found == timm_files.Found(
        "vit_small_patch14_dinov2", Path("/cache/timm/vit_small_patch14_dinov2.lvd142m/model.safetensors")
    )


def test_a_folder_of_weights_is_looked_into_by_name(folders, tmp_path):
    place = tmp_path / "all"
    shutil.copytree(folders[RESNET], place / RESNET)
    encoder = NamedImage(RESNET, Weights("files", place), CPU, 2)
    assert encoder.recipe == named(folders[RESNET]).recipe
    assert NamedImage(RESNET, Weights("files", folders[RESNET]), CPU, 2).recipe == encoder.recipe
    with pytest.raises(WeightsError, match=r"resnet101: the weights in .* are of resnet50. Take --image resnet50"):
        NamedImage("resnet101", Weights("files", folders[RESNET]), CPU, 2)
    with pytest.raises(WeightsError, match=r"no weights for resnet101: looked for .* in .*all/resnet101, "):
        NamedImage("resnet101", Weights("files", place), CPU, 2)
    (place / RESNET / "config.json").unlink()  # the weights of a smaller model than timm's own
    with pytest.raises(WeightsError, match="does not hold the weights of resnet50"):
        NamedImage(RESNET, Weights("files", place), CPU, 2).encode(pictures())


@pytest.mark.parametrize("name", ["hgnet_tiny", "coat_tiny", "pit_ti_224"])
def test_a_model_whose_features_are_no_grid_has_a_vector_and_no_regions(name):
    encoder = named(name, Weights("random-full"))
    assert encoder.regions == 0 and "encoder" in encoder.recipe_of("mention.image")
    with pytest.raises(ConfigError, match=f"--image {name}: its last features are no grid"):
        encoder.recipe_of("mention.regions")


def test_a_crop_that_is_longer_than_any_picture_is_read_in_the_middle(folders):
    encoder = named(folders["vit_small_patch16_224"])
    long = Image.new("RGB", (5000, 2))
    long.paste((250, 20, 90), (2450, 0, 2550, 2))
    middle = long.crop((2450, 0, 2550, 2))
    transform, seen = encoder._described.transform(), []
    encoder._pixels = Pixels.of(transform, lambda image: seen.append(bounded(image).size) or bounded(image))
    assert (encoder.encode([long], "crops") == encoder.encode([middle], "crops")).all()
    assert encoder.counts["crops"] == 2 and seen == [(100, 2), (100, 2)]  # scaled, the whole would be 79 megapixels


def test_the_detectors_objects_are_vectors_of_the_encoder_that_is_named():
    config = extract_config(Path("unused"), Path("unused"), image=RESNET, image_weights="random-tiny")
    encoders = Encoders(config)
    assert encoders.image.recipe["architecture"] == RESNET and encoders.sizes()["V"] == encoders.image.width == 256
    assert encoders.objects.recipe["resnet"] == encoders.image.recipe
    found = encoders.objects.encode([pictures()[0]])
    assert found["summary"].shape == (1, 256) and encoders.image.counts["crops"] == 3


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_cities(tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("name", list(FAMILIES)[:5])
@pytest.mark.usefixtures("toys_built_once")
def test_a_release_becomes_top_k_with_the_encoder_that_is_named(release, tmp_path, name):
    shards = tmp_path / "shards"
    config = extract_config(release, shards, image=name, image_weights="random-tiny", heads=("ghmfc",))
    reader = melcache.open(pipeline.run(config))
    encoder, rows = named(name, TINY, batch=16), reader.column("mention.image.vector")
    for row, mention in enumerate(reader.column("mention.ids.id")):
        color = ("red", "green", "blue")[int(mention.decode()[1:]) // 3]
        pooled, regions = encoder.encode_regions([Image.new("RGB", (60, 40), color)])
        np.testing.assert_allclose(rows[row], pooled[0], atol=5e-3)
        np.testing.assert_allclose(reader.column("mention.regions.vector")[row], regions[0], atol=5e-3)
    assert f"timm {type(encoder._model).__name__}" in json.dumps(reader.manifest.parts["entity.objects"].recipe)
    training = TrainConfig(dataset=str(shards / "world"), model="ghmfc", run=tmp_path / "run", device="cpu", epochs=1)
    found = loop.fit(resolved(training), GhmfcConfig(width=16, tokens=8))
    assert 0 <= found["mean"]["test"]["top1"] <= found["mean"]["test"]["top5"] == 1
