"""Each encoder against its own library, called by hand on one text or picture at a time."""

import random

import numpy as np
import open_clip
import pytest
import torch
import torchvision.transforms.functional as transforms
import transformers
from PIL import Image

from extract.attributes import prompts
from extract.attributes.by_clip import Attributes
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.compute import Compute
from extract.encoders.crops import outward
from extract.encoders.detector import Objects, summary
from extract.encoders.joint.clip import ARCHITECTURE, Clip
from extract.encoders.pixels import plain
from extract.encoders.resnet import SIDE
from extract.encoders.text import toy_vocabulary
from extract.weights.sources import parse

TEXTS = [
    "Paris at night",
    "",
    "x",
    "The Washington Redskins played in unbelievableness yesterday, again.",
    "Île-de-France, Straße, naïve café",
    "東京 is big 🚀 (really?)",
    "tab\tand\nnewline\u00a0and NUL\0 here",
    " ".join(["harbor market"] * 40),
]


@pytest.fixture(scope="module")
def encoders():
    return Encoders(ExtractConfig(weights="random-tiny", device="cpu", text_batch=3, image_batch=3))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(toy_vocabulary.build()) + "\n", encoding="utf-8")
    return transformers.BertTokenizer(str(path), do_lower_case=False)


def picture(size=(50, 40), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).resize(size)


def encoded(bert, texts, limit=512, spans=()):
    """Return every text's values by name, in the order of `texts`."""
    result = [None] * len(texts)
    for batch in bert.encode(texts, limit, spans):
        columns = (batch.cls, batch.mean, batch.pooler, batch.truncated, batch.spans, batch.found)
        for i, *values in zip(batch.index, *columns, strict=True):
            result[i] = dict(zip(("cls", "mean", "pooler", "truncated", "spans", "found"), values, strict=True))
    return result


def alone(bert, ids):
    """Return the last layer (T, D) and the pooler of one text's ids from the model itself."""
    with torch.inference_mode():
        output = bert._loaded()(input_ids=torch.tensor([ids]))
    return output.last_hidden_state[0].numpy(), output.pooler_output[0].numpy()


# --- BERT


@pytest.mark.parametrize("text", TEXTS)
def test_our_tokens_are_those_of_the_transformers_tokenizer(encoders, tokenizer, text):
    assert encoders.text._tokenizer.encode(text).ids == tokenizer(text)["input_ids"]


def test_a_batch_of_texts_equals_bert_on_one_text_at_a_time(encoders, tokenizer):
    for text, values in zip(TEXTS, encoded(encoders.text, TEXTS), strict=True):
        hidden, pooler = alone(encoders.text, tokenizer(text)["input_ids"])
        np.testing.assert_allclose(values["cls"], hidden[0], atol=1e-5)
        np.testing.assert_allclose(values["pooler"], pooler, atol=1e-5)
        np.testing.assert_allclose(values["mean"], hidden[1:-1].mean(0) if text else hidden[0], atol=1e-5)
        assert not values["truncated"]


def test_batches_do_not_change_values(encoders):
    together, apart = encoded(encoders.text, TEXTS), [encoded(encoders.text, [text])[0] for text in TEXTS]
    for left, right in zip(together, apart, strict=True):
        for name in ("cls", "mean", "pooler"):
            np.testing.assert_allclose(left[name], right[name], atol=1e-5)


def test_a_cut_text_keeps_its_separator_and_says_so(encoders, tokenizer):
    text, limit = TEXTS[-1], 10
    ids = tokenizer(text)["input_ids"]
    hidden, pooler = alone(encoders.text, [*ids[: limit - 1], tokenizer.sep_token_id])
    values = encoded(encoders.text, [text, "short"], limit)
    np.testing.assert_allclose(values[0]["cls"], hidden[0], atol=1e-5)
    np.testing.assert_allclose(values[0]["pooler"], pooler, atol=1e-5)
    np.testing.assert_allclose(values[0]["mean"], hidden[1:-1].mean(0), atol=1e-5)
    assert [bool(item["truncated"]) for item in values] == [True, False]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_text_at_the_limit_is_cut_only_beyond_it(encoders, tokenizer, extra):
    length = len(tokenizer(TEXTS[3])["input_ids"])
    assert encoded(encoders.text, [TEXTS[3]], length + extra)[0]["truncated"] == (extra < 0)


SPANS = [
    ("Paris at night", "Paris"),
    ("The unbelievableness of it", "unbelievableness"),  # many pieces
    ("Île-de-France, naïve café here", "naïve café"),  # several words, not ASCII
    ("the 東京 tower", "東京"),
    ("a 🚀 rocket", "rocket"),
    ("end with Washington", "Washington"),
]


@pytest.mark.parametrize(("text", "surface"), SPANS)
def test_a_span_is_the_mean_of_the_pieces_of_its_words(encoders, tokenizer, text, surface):
    start = text.index(surface)
    ids = tokenizer(text)["input_ids"]
    before = len(tokenizer.tokenize(text[:start]))  # these surfaces are whole words, so pieces do not cross borders
    pieces = tokenizer.tokenize(surface)
    hidden, _ = alone(encoders.text, ids)
    expected = hidden[1 + before : 1 + before + len(pieces)]
    assert [tokenizer.convert_ids_to_tokens(i) for i in ids[1 + before :][: len(pieces)]] == pieces
    values = encoded(encoders.text, ["something else", text], 512, [[], [(start, start + len(surface)), (-1, -1)]])[1]
    np.testing.assert_allclose(values["spans"][0], expected.mean(0), atol=1e-5)
    np.testing.assert_allclose(values["spans"][1], hidden[1:-1].mean(0), atol=1e-5)
    assert values["found"].tolist() == [True, False]


def test_a_span_beyond_the_limit_is_not_found_and_gets_the_mean(encoders):
    text = "one two " + "three " * 30 + "Paris"
    values = encoded(encoders.text, [text], 8, [[(0, 3), (len(text) - 5, len(text))]])[0]
    assert values["found"].tolist() == [True, False]
    np.testing.assert_array_equal(values["spans"][1], values["mean"])


def test_a_span_of_characters_that_no_token_has_is_not_found(encoders):
    values = encoded(encoders.text, ["a   b", ""], 512, [[(2, 3)], [(-1, -1)]])
    assert not values[0]["found"][0] and not values[1]["found"][0]
    np.testing.assert_array_equal(values[1]["spans"][0], values[1]["cls"])


# --- ResNet


def test_resnet_equals_torchvisions_own_transforms(encoders, monkeypatch):
    monkeypatch.setattr(encoders.image, "_side", SIDE)  # the tiny one reads smaller pictures
    pictures = [picture((50, 40)), picture((20, 300), 1), picture((224, 224), 2), picture((7, 5), 3)]
    vectors = encoders.image.encode(pictures)
    for image, vector in zip(pictures, vectors, strict=True):
        resized = transforms.resize(image, [224, 224], transforms.InterpolationMode.BICUBIC, antialias=True)
        pixels = transforms.normalize(transforms.to_tensor(resized), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        with torch.inference_mode():
            expected = encoders.image._loaded()(pixels[None])[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-4)
    assert encoders.image.encode([]).shape == (0, encoders.image.width)


# --- CLIP


def test_clip_pictures_equal_open_clips_own_transform(encoders):
    transform = open_clip.image_transform(224, is_train=False)
    pictures = [picture((50, 40)), picture((20, 300), 1), picture((300, 90), 2), picture((7, 5), 3)]
    for image, vector in zip(pictures, encoders.joint.encode_images(pictures), strict=True):
        with torch.inference_mode():
            expected = encoders.joint.model.encode_image(transform(image)[None])[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_clip_texts_equal_open_clips_own_tokenizer(encoders):
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    texts = [*TEXTS, "word " * 300, "&lt;b&gt; html &amp;amp; ﬁnd"]
    for text, vector in zip(texts, encoders.joint.encode_texts(texts), strict=True):
        ids = tokenize([text])
        assert (ids == 49407).sum() == 1  # the end token, kept even when the text is cut
        with torch.inference_mode():
            expected = encoders.joint.model.encode_text(ids)[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_clip_shows_the_patches_that_open_clip_shows(encoders):
    clip, images = encoders.joint, [picture(), picture((30, 60), 1)]
    made = clip.columns(images, ["joint", "patches"])
    np.testing.assert_array_equal(made["joint"]["image"], clip.encode_images(images))
    pixels = torch.stack([clip.transform(image) for image in images])
    clip.model.visual.output_tokens = True
    try:
        _, expected = clip.model.encode_image(pixels)
    finally:
        clip.model.visual.output_tokens = False
    np.testing.assert_allclose(made["patches"]["vector"], expected, atol=1e-5)
    assert made["patches"]["vector"].shape == (2, clip.sizes["G"], clip.sizes["I"])
    (states,) = clip.token_columns(["harbor"], ["states", "joint"])
    assert states["states"].shape == (clip.count("harbor"), clip.sizes["L"])
    np.testing.assert_array_equal(states["joint"], next(clip.encode_tokens(["harbor"])))


def test_is_cut_agrees_with_a_count_of_tokens(encoders):
    count = open_clip.tokenizer.SimpleTokenizer().encode
    rng = random.Random(0)
    pieces = ["a ", "harbor ", "東", "🚀", "\ufdfa", "İ", "&nvap;", "x9", "!", "é", " ", "ﬃ", "\u0344"]
    texts = [*TEXTS, *(piece * n for piece in pieces for n in (1, 2, 5, 9, 18, 19, 25, 37, 38, 74, 75, 76, 80))]
    texts += ["".join(rng.choices(pieces, k=rng.randrange(100))) for _ in range(300)]
    verdicts = [encoders.joint.is_cut(text) for text in texts]
    assert verdicts == [len(count(text)) + 2 > 77 for text in texts]
    assert 20 < sum(verdicts) < len(texts) - 20
    assert not encoders.joint.is_cut("a " * 75) and encoders.joint.is_cut("a " * 76)


def test_attributes_are_clips_own_answers(encoders):
    attributes = Attributes(encoders.joint.encode_texts, gender=False, race=False)
    images = encoders.joint.encode_images([picture((50, 40), seed) for seed in range(4)])
    probabilities, vectors = attributes.scene(images)
    question, begin = prompts.SCENE[1], len(prompts.SCENE[0].prompts)
    texts = torch.tensor(encoders.joint.encode_texts(list(question.prompts.values())))
    cosines = torch.cosine_similarity(torch.tensor(images)[:, None], texts, dim=-1)
    expected = torch.softmax(100 * cosines, 1)
    np.testing.assert_allclose(probabilities[:, begin : begin + len(question.prompts)], expected, atol=1e-4)
    assert vectors.shape == (4, encoders.joint.width)
    np.testing.assert_array_equal(attributes.scene(images[[2]])[1][0], vectors[2])


def test_the_architecture_builds_quick_gelu():
    assert open_clip.get_model_config(ARCHITECTURE)["quick_gelu"] is True
    full = Clip(parse("random-full"), Compute.choose(torch.device("cpu"), "auto"), 8, 8)
    names = [type(module).__name__ for module in full.model.modules()]
    assert names.count("QuickGELU") == 24 and "GELU" not in names  # 12 layers a tower


# --- objects


def detected(boxes, scores, labels=None):
    labels = labels or [1] * len(scores)
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "labels": np.array(labels),
    }


@pytest.fixture
def detector(encoders, monkeypatch):
    """The objects encoder with a detector that finds what a test says, and the crops that ResNet was given."""
    given, crops = [], []
    objects = Objects(parse("random-tiny"), encoders.compute, encoders.image, "v1", 3)
    begun = encoders.image.begun
    monkeypatch.setattr(objects, "_detect", lambda images: given)
    monkeypatch.setattr(
        encoders.image,
        "begun",
        lambda images, counted="pictures": (counted == "crops" and crops.extend(map(plain, images))) or begun(images),
    )
    return objects, given, crops


def test_crops_are_cut_in_the_pictures_own_coordinates(detector):
    objects, given, crops = detector
    image = Image.new("RGB", (300, 100), "black")
    image.paste((10, 200, 30), (200, 40, 260, 70))
    given.append(detected([[200, 40, 260, 70], [200.4, 40.2, 259.5, 69.1]], [0.9, 0.5]))
    values = objects.encode([image])
    assert [crop.size for crop in crops] == [(60, 30), (60, 30)]  # rounded outwards
    assert all(set(crop.get_flattened_data()) == {(10, 200, 30)} for crop in crops)
    assert values["boxes"][0, 0].tolist() == [200, 40, 260, 70]


def test_objects_are_padded_to_k_and_the_best_k_are_kept(detector, encoders):
    objects, given, crops = detector
    boxes = [[0, 0, 10 + i, 20] for i in range(5)]
    given += [
        detected(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [5, 4, 3, 2, 1]),
        detected([], []),
        detected(boxes[:1], [0.3], [7]),
    ]
    pictures = [picture((40, 40), i) for i in range(3)]
    values = objects.encode(pictures)
    assert values["labels"].tolist() == [[5, 4, 3], [0, 0, 0], [7, 0, 0]]
    np.testing.assert_allclose(values["scores"], [[0.9, 0.8, 0.7], [0, 0, 0], [0.3, 0, 0]])
    assert not values["summary"][1].any() and not values["boxes"][1].any() and not values["boxes"][2, 1:].any()
    assert len(crops) == 4
    vector = encoders.image.encode([pictures[2].crop((0, 0, 10, 20))])[0]
    np.testing.assert_allclose(values["summary"][2], vector / np.linalg.norm(vector), atol=1e-5)
    vectors = encoders.image.encode([pictures[0].crop((0, 0, 10 + i, 20)) for i in range(3)])
    np.testing.assert_allclose(values["summary"][0], summary(vectors, values["scores"][0]), atol=1e-5)


def test_real_detections_lie_inside_a_flat_picture_best_first(encoders):
    values = encoders.objects.encode([picture((300, 20))])
    assert (values["boxes"] >= 0).all() and (values["boxes"] <= [300, 20, 300, 20]).all()
    assert (np.diff(values["scores"][0]) <= 0).all() and values["scores"].any()


@pytest.mark.parametrize("first", [(90, 20), (20, 300), (64, 64)])
def test_what_the_detector_saw_first_does_not_change_later_pictures(encoders, first):
    fresh = Encoders(ExtractConfig(weights="random-tiny", device="cpu"))
    fresh.objects.encode([picture(first)])
    expected = encoders.objects.encode([picture((64, 48), 5)])
    for column, values in fresh.objects.encode([picture((64, 48), 5)]).items():
        np.testing.assert_array_equal(values, expected[column])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_real_detectors_levels_have_their_strides(encoders, version):
    objects = Objects(parse("random-full"), encoders.compute, encoders.image, version, 3)
    assert objects._model.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.2, 0.7, 9.1, 4.0], (0, 0, 10, 4)),
        ([5, 5, 5, 5], (5, 5, 6, 6)),
        ([19.5, 9.5, 20, 10], (19, 9, 20, 10)),
        ([20, 10, 20, 10], (19, 9, 20, 10)),
        ([-3, -1, 99, 99], (0, 0, 20, 10)),
    ],
)
def test_boxes_become_at_least_one_whole_pixel_inside_the_picture(box, expected):
    assert outward(np.array(box, np.float32), (20, 10)) == expected


def test_the_trained_v1_detector_has_norms_without_epsilon(tmp_path):
    """As torchvision's own builder: its COCO_V1 weights were trained with frozen norms of eps 0."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    from extract.encoders import detector
    from extract.weights import sources

    path = tmp_path / "fasterrcnn.pth"
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)
    model = detector._load(path, sources.Weights("files", tmp_path), "v1")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) > 50
    assert {module.eps for module in norms} == {0.0}


def test_a_text_that_spells_clips_own_tokens_is_read_to_its_end(encoders):
    clip = encoders.joint
    plain = clip.encode_texts(["Paris and London"])
    for sign in ("<end_of_text>", "<start_of_text>", "&lt;end_of_text&gt;"):
        text = f"Paris {sign} and London"
        np.testing.assert_array_equal(clip.encode_texts([text]), plain)
        assert clip.count(text) == clip.count("Paris and London") == len(next(clip.encode_tokens([text])))
    assert clip.is_cut("<end_of_text>" + "harbor " * 80)
