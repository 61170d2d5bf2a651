"""Encoders of one's own, a file a role: the example from release to Top-k, all roles at once, and clear errors."""

import json
import os
import re
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cache as melcache
from common import own_file
from common.errors import ConfigError
from extract import pipeline
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.detector import summary
from tests.worlds import extract_config, write_cities
from train import loop
from train.config import TrainConfig, resolved
from train.heads.ghmfc.config import GhmfcConfig

ROOT = Path(__file__).parents[2]
EXAMPLE, GUIDE = ROOT / "examples/encoders/color_grid.py", ROOT / "docs/guides/own-encoder.md"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_cities(tmp_path_factory.mktemp("release"))


def guide_files(folder):
    """Write the files that the guide shows by role into a folder; return their paths by option."""
    found = {}
    for name, text in re.findall(r"```python\n(# (\w+)\.py.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        name, text = text, name
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        found[name.removeprefix("my_")] = str(folder / f"{name}.py")
    return found


def rows_by_id(reader):
    return {name.decode(): row for row, name in enumerate(reader.column("mention.ids.id"))}


@pytest.mark.usefixtures("toys_built_once")
def test_the_example_takes_a_release_to_top_k(release, tmp_path):
    config = extract_config(release, tmp_path / "shards", image=str(EXAMPLE), heads=("ghmfc",))
    reader = melcache.open(pipeline.run(config))
    row = rows_by_id(reader)["m4"]  # a green picture
    green = np.array([0, 128 / 255, 0, 0, 0, 0])
    np.testing.assert_allclose(reader.column("mention.image.vector")[row], green, atol=1e-3)
    assert reader.column("mention.regions.vector").shape == (9, 16, 6)
    np.testing.assert_allclose(reader.column("mention.regions.vector")[row], np.tile(green, (16, 1)), atol=1e-3)
    assert reader.column("entity.objects.summary").shape == (3, 6)
    training = TrainConfig(
        dataset=str(tmp_path / "shards/world"), model="ghmfc", run=tmp_path / "run", device="cpu", epochs=1
    )
    found = loop.fit(resolved(training), GhmfcConfig(width=16, tokens=8))
    assert found["mean"]["test"]["top5"] == 1
    assert "random weights (random-tiny) of the roles text, joint, objects" in json.dumps(reader.manifest.warnings)


def test_files_of_all_roles_fill_a_cache_of_every_part(release, tmp_path):
    """The guide's own files, against what they say, computed here by hand."""
    files = guide_files(tmp_path)
    config = extract_config(release, tmp_path / "shards", **files, heads=("ghmfc", "dwe"))
    reader = melcache.open(pipeline.run(config))
    row = rows_by_id(reader)["m4"]  # "Oslo by night", a green picture of 60 x 40
    words = [np.array([len(word), word.lower().count("o"), 1.0]) for word in ("", "Oslo", "by", "night")]
    np.testing.assert_allclose(reader.column("mention.text.span")[row], words[1], atol=1e-3)
    np.testing.assert_allclose(reader.column("mention.text.sentence")[row], np.mean(words, 0), atol=1e-3)
    first, count = (reader.column(f"mention.tokens.{name}")[row] for name in ("first", "count"))
    np.testing.assert_allclose(reader.column("token.text.vector")[first : first + count], words, atol=1e-3)
    green = np.array([0, 128 / 255, 0])
    np.testing.assert_allclose(reader.column("mention.joint.image")[row], green, atol=1e-3)
    np.testing.assert_allclose(reader.column("mention.joint.sentence")[row], [0, 1, 0], atol=1e-3)  # g of r, g, b
    first, count = (reader.column(f"mention.joint_tokens.{name}")[row] for name in ("first", "count"))
    assert count == len("Oslo by night")
    np.testing.assert_allclose(reader.column("joint_token.joint.vector")[first + 9], [0, 0, 0], atol=1e-3)
    assert reader.column("mention.objects.boxes")[row].tolist() == [[0, 0, 30, 40], [30, 0, 60, 40], [0, 0, 0, 0]]
    assert reader.column("mention.objects.labels")[row].tolist() == [1, 3, 0]
    half = np.tile(green, (2, 1))
    np.testing.assert_allclose(
        reader.column("mention.objects.summary")[row], summary(half, np.array([0.75, 0.5])), atol=1e-3
    )
    np.testing.assert_allclose(reader.column("mention.crops.vector")[row], [green, green, np.zeros(3)], atol=1e-3)
    assert not reader.manifest.warnings


def image_file(folder, text="", name="mine.py", more=""):
    path = folder / name
    body = (
        text
        or f"""
import numpy as np

class Encoder:
    width = 2
{more}
    def encode_images(self, images):
        return np.ones((len(images), 2))
"""
    )
    path.write_text(body, encoding="utf-8")
    return path


def encoders(file, **options):
    given = {"weights": "random-tiny", "device": "cpu", "image": str(file)} | options
    return Encoders(ExtractConfig(**{name: value for name, value in given.items() if value is not None}))


def test_what_identifies_a_file_stands_in_a_leaf_of_its_own(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.bin").write_bytes(b"1")
    init = "    def __init__(self, weights, device): self.folder = weights\n"
    file = image_file(tmp_path, more=init + "    recipe = {'bins': 4}\n")
    first = encoders(file, image_weights=str(weights)).image
    assert first._file.encoder.folder == weights and first.width == 2 and first.regions == 0
    assert first.recipe["declared"] == {"bins": 4} and first.recipe["compute"] == "fp32"

    def changed(file, **options):
        recipe = encoders(file, **{"image_weights": str(weights)} | options).image.recipe
        assert recipe.keys() == first.recipe.keys()
        return {name for name in recipe if recipe[name] != first.recipe[name]}

    (tmp_path / "elsewhere").mkdir()
    assert changed(shutil.copy(file, tmp_path / "elsewhere" / "other.py")) == set()
    assert changed(file, image_batch=3) == {"batch"}
    assert changed(file, precision="bf16") == {"compute"}
    assert changed(file, image_weights=None) == {"weights"}
    assert changed(
        file,
        weights=str(tmp_path / "elsewhere"),
        text_weights="random-tiny",
        joint_weights="random-tiny",
        detector_weights="random-tiny",
        image_weights=None,
    ) == {"weights"}  # those of the papers' encoders
    (weights / "a.bin").rename(weights / "b.bin")
    assert changed(file) == {"weights"}
    (weights / "b.bin").rename(weights / "a.bin")
    (weights / "a.bin").write_bytes(b"2")
    assert changed(file) == {"weights"}
    (weights / "a.bin").write_bytes(b"1")
    assert changed(image_file(tmp_path, file.read_text() + "# more\n", "more.py")) == {"code"}
    assert changed(image_file(tmp_path, file.read_text().replace("4}", "5}"), "five.py")) == {"code", "declared"}


def test_what_a_file_declares_may_change_without_the_file(tmp_path, monkeypatch):
    file = image_file(tmp_path, more="    import os; recipe = {'bins': os.environ['BINS']}\n")
    monkeypatch.setenv("BINS", "4")
    before = encoders(file).image.recipe
    monkeypatch.setenv("BINS", "5")
    after = encoders(file).image.recipe
    assert {name for name in after if after[name] != before[name]} == {"declared"}


def test_a_file_changed_within_a_second_is_read_again(tmp_path, monkeypatch):
    """Python's own import would take what it compiled before, of a file of the same size and second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "mine.py"
    for number in (1, 2):
        path.write_text(f"X = {number}\n")
        os.utime(path, (1e9, 1e9))
        module, sha256 = own_file.load(path, "encoder", "--image", ("X",), "the guide")
        assert (module.X, len(sha256)) == (number, 64)
    assert [item.name for item in tmp_path.iterdir()] == ["mine.py"]


IMAGE = "import numpy as np\nclass Encoder:\n    width = 2\n    def encode_images(self, images): return {}\n"
TEXT = """
import numpy as np
class Encoder:
    width, limit = 2, 9
    def tokens(self, text, side): return {}
    def encode(self, ids, mask): return np.zeros((*ids.shape, 2))
"""
DETECTOR = "class Encoder:\n    def detect(self, images): return {}\n"
BAD = {
    "no class": ("image", "x = 1\n", r"mine.py lacks Encoder; see docs/guides/own-encoder.md"),
    "no method": ("image", "class Encoder:\n    width = 3\n", "Encoder lacks encode_images, which --image needs"),
    "no width": ("joint", "class Encoder: pass\n", "lacks width, encode_images, encode_texts, which --joint needs"),
    "no detector": ("detector", "class Encoder: pass\n", "lacks detect, which --detector needs"),
    "width": ("image", IMAGE.replace("2", "'2'"), "Encoder.width is '2', expected a whole number above 0"),
    "regions": ("image", IMAGE.replace("width", "regions = 0; width"), "Encoder.regions is 0, expected a whole"),
    "recipe": ("image", IMAGE.replace("width", "recipe = {1, 2}; width"), "Encoder.recipe must hold what JSON has"),
    "shape": ("image", IMAGE.format("np.ones((1, 3))"), r"encode_images gave \(1, 3\), expected shape \(1, 2\)"),
    "NaN": ("image", IMAGE.format("np.full((1, 2), np.nan)"), "encode_images gave NaN or infinity, expected finite"),
    "no numbers": ("image", IMAGE.format("'x'"), "encode_images gave 'x', expected numbers of shape"),
    "nothing": ("image", IMAGE.format("None"), r"encode_images gave .*, expected"),
    "tokens": ("text", TEXT.format("[1, 2], [(0, 1)]"), "tokens gave 2 and 1, expected as many ids as offsets"),
    "no tokens": ("text", TEXT.format("[], []"), "tokens gave 0 and 0, expected as many"),
    "one of two": ("text", TEXT.format("[1]"), "tokens gave 1, expected a list or tuple of 2"),
    "states": ("text", TEXT.replace("2))", "3))").format("[1], [(0, 1)]"), r"encode gave \(1, 1, 3\), expected shape"),
    "detections": ("detector", DETECTOR.format("[]"), "detect gave 0, expected a list or tuple of 1"),
    "boxes": ("detector", DETECTOR.format("[([[1, 2]], [1.0], [1])]"), r"detect gave \(1, 2\), expected .*\(1, 4\)"),
    "labels": ("detector", DETECTOR.format("[([[1, 2, 3, 4]], [1.0], [0])]"), "expected .*labels above 0"),
    "complex": ("image", IMAGE.format("np.ones((1, 2)) * 1j"), "encode_images gave array.*, expected numbers of shape"),
    "strings": ("image", IMAGE.format("[['1', '2']]"), "encode_images gave .*, expected numbers of shape"),
    "lines": ("image", IMAGE.format("np.array([['1'], ['2']])"), "encode_images gave .*, expected numbers of shape"),
    "beyond floats": ("image", IMAGE.format("[[10**400, 1]]"), "encode_images gave .*, expected numbers of shape"),
    "sparse": ("image", IMAGE.format("__import__('torch').ones(1, 2).to_sparse()"), "encode_images gave .*, expected"),
    "exit": ("image", IMAGE.format("exit(0)"), r"mine.py ended the program \(sys.exit\(0\)\)"),
    "exit at once": ("image", "raise SystemExit\n", r"mine.py ended the program"),
    "arguments": (
        "image",
        IMAGE.replace("width", "def __init__(self): pass\n    width"),
        "__init__ takes other arguments",
    ),
    "no call": (
        "image",
        IMAGE.replace("def encode_images(self, images): return {}", "encode_images = 5"),
        "is 5, expected a method",
    ),
    "no such class": ("image", "Encoder = 5\n", "Encoder is 5, expected a class"),
    "generator": (
        "text",
        TEXT.format("(n for n in [1]), [(0, 1)]"),
        "tokens gave <generator.*, expected whole numbers",
    ),
    "words": ("text", TEXT.format("['a'], [(0, 1)]"), "tokens gave .*, expected whole numbers"),
    "fractions": ("text", TEXT.format("[1.5], [(0, 1)]"), "tokens gave .*, expected whole numbers"),
    "large words": ("text", TEXT.format("[2**63], [(0, 1)]"), "tokens gave .*, expected whole numbers"),
    "flat spans": ("text", TEXT.format("[1, 2], [1, 2]"), "tokens gave .*, expected whole numbers, 2 deep"),
    "no lists": ("detector", DETECTOR.format("[(None, None, None)]"), "detect gave"),
    "half a label": ("detector", DETECTOR.format("[([[1, 2, 3, 4]], [1.0], [1.5])]"), "expected .*whole labels"),
    "large labels": ("detector", DETECTOR.format("[([[1, 2, 3, 4]], [1.0], [2**31])]"), "expected .*at most 65,536"),
    "turned boxes": ("detector", DETECTOR.format("[([[3, 2, 1, 4]], [1.0], [1])]"), "expected boxes x1, y1, x2, y2"),
}  # fmt: skip


JOINT = IMAGE.format("np.ones((len(images), 2))") + "    def encode_texts(self, texts): return []\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("logit_scale = 'x'", "Encoder.logit_scale is 'x', expected a finite number"),
        ("logit_bias = float('nan')", "Encoder.logit_bias is nan, expected a finite number"),
        ("def count_tokens(self, text): return None", "count_tokens gave None, expected whole numbers"),
        ("def count_tokens(self, text): return 2.5", "count_tokens gave 2.5, expected whole numbers"),
        ("def count_tokens(self, text): return -1", "count_tokens gave -1, expected 0 and more"),
    ],
)
def test_numbers_of_a_joint_file_are_checked(tmp_path, line, message):
    file = image_file(tmp_path, f"{JOINT}    {line}\n")
    with pytest.raises(ConfigError, match=message):
        encoders(EXAMPLE, joint=str(file)).joint.count("x")


def test_what_a_file_does_to_pictures_and_states_no_other_sees(tmp_path):
    paints = "[image.paste((9, 9, 9), (0, 0, *image.size)) or image.thumbnail((1, 1)) for image in images]"
    file = image_file(tmp_path, IMAGE.format(f"{paints} and np.ones((len(images), 2))"))
    picture = Image.new("RGB", (4, 4), (1, 2, 3))
    detector = image_file(tmp_path, DETECTOR.format(f"{paints} and [([], [], [])]"), name="detector.py")
    joint = image_file(tmp_path, JOINT.replace("np.ones", f"{paints} and np.ones"), name="joint.py")
    made = encoders(file, detector=str(detector), joint=str(joint))
    made.image.encode([picture])
    made.joint.encode_images([picture])
    made.objects.encode([picture])
    assert picture.size == (4, 4) and picture.getcolors() == [(16, (1, 2, 3))]
    pool = "    def pool(self, states):\n        states[:] = 7\n        return states[0]\n"
    own = TEXT.format("[1], [(0, 1)]") + pool
    [batch] = encoders(EXAMPLE, text=str(image_file(tmp_path, own, name="text.py"))).text.encode(["x"], 8)
    assert batch.cls.max() == 7 and batch.states[0].max() == 0


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_encoder_is_one_line_that_names_it(tmp_path, case):
    role, text, message = BAD[case]
    file = image_file(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        made = encoders(file if role == "image" else EXAMPLE, **({} if role == "image" else {role: str(file)}))
        if role == "text":
            list(made.text.encode(["x"], 8))
        else:
            (made.image if role == "image" else made.objects).encode([Image.new("RGB", (9, 9))])
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_options_that_a_file_cannot_take_are_one_line(tmp_path):
    for options, message in (
        ({"image": str(tmp_path / "no.py")}, "--image .*no.py: there is no such file"),
        ({"image_weights": "random-tiny"}, "--image-weights random-tiny: .* draws none here"),
        ({"text": "mine.py", "text_pooling": "mean"}, "--text-pooling is for a text encoder that is named"),
    ):
        with pytest.raises(ConfigError, match=message):
            encoders(**{"file": EXAMPLE} | options)


def test_parts_that_a_file_does_not_make_are_refused_before_any_work(tmp_path):
    made = encoders(image_file(tmp_path), joint=str(image_file(tmp_path, name="joint.py", more="    encode_texts = 0")))
    with pytest.raises(ConfigError, match=r"mine.py: Encoder has no regions or no encode_regions"):
        made.image.recipe_of("mention.regions")
    for part in ("joint_token.joint", "mention.joint_tokens"):
        with pytest.raises(ConfigError, match=rf"joint.py: Encoder lacks encode_tokens, count_tokens, which {part}"):
            made.joint.recipe_of(part)
    for part in ("mention.patches", "entity.joint_tokens", "joint_token.states"):
        with pytest.raises(ConfigError, match=f"joint.py: a joint encoder of a file makes vectors, .*not {part}"):
            made.joint.recipe_of(part)
    with pytest.raises(ConfigError, match="not states and patches of --for"):
        made.joint.sizes  # noqa: B018
    assert made.joint.recipe_of("mention.crops") and made.joint.recipe_of("entity.joint")


@pytest.mark.parametrize("text", ["1 / 0\n", IMAGE.format("1 / 0")])
def test_an_error_of_the_users_code_keeps_its_traceback_with_the_file(tmp_path, text):
    file = image_file(tmp_path, text)
    with pytest.raises(ZeroDivisionError) as error:
        encoders(file).image.encode([Image.new("RGB", (9, 9))])
    last = traceback.extract_tb(error.tb)[-1]
    assert (last.filename, last.line) == (str(file), text.splitlines()[-1].strip())


def test_a_cut_text_keeps_its_last_token_and_a_tensor_is_taken(tmp_path):
    text = """
import torch
class Encoder:
    width, limit = 1, 5
    def tokens(self, text, side):
        return [7 if side == "entity" else 8, *range(len(text)), 9], [(0, 0), *((i, i + 1) for i in range(len(text))), (0, 0)]
    def encode(self, ids, mask): return ids[..., None].to(torch.float16)
"""  # noqa: E501
    encoder = encoders(EXAMPLE, text=str(image_file(tmp_path, text))).text
    [batch] = encoder.encode(["abcdef", "ab"], 99, [[(2, 3)], [(0, 1)]], source="name")
    states = {i: batch.states[place][:, 0].tolist() for place, i in enumerate(batch.index)}
    assert states == {0: [7, 0, 1, 2, 9], 1: [7, 0, 1, 9]}
    places = {i: place for place, i in enumerate(batch.index)}
    assert [bool(batch.truncated[places[i]]) for i in (0, 1)] == [True, False]
    assert batch.spans[places[0]].tolist() == [[2.0]] and batch.mean[places[0]].tolist() == [1.0]
    assert encoder.tokens("ab", 99).ids == [8, 0, 1, 9] and batch.cls.dtype == np.float32
    assert torch.is_inference_mode_enabled() is False
