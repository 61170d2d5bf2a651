"""Parts made on demand, tokens, regions, crops and attributes: against libraries and loops, and interrupted."""

import json
import random
import shutil
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import melcache
from cache import kinds
from cache.writing.draft import Draft
from common.errors import ConfigError, DatasetError
from extract import pipeline
from extract.cli import app
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.detector import Objects
from extract.encoders.joint.clip import Clip
from extract.encoders.text.bert import Bert
from extract.planning import shards
from extract.planning.layout import pieces
from extract.preparation import prepare
from tests.worlds import entity_record, extract_config, mention_record, write_release
from torture.machines.unlisted_rot import take_back
from train.data.table import Table

pytestmark = pytest.mark.usefixtures("toys_built_once")
LONG = " ".join(["harbor"] * 90)
ENTITIES = [
    ("Paris", "capital of France", "red"),
    ("Lyon", "", "green"),
    ("Rome", "in Italy", None),
    ("Oslo", "", "cut"),
]
MENTIONS = [  # sentence, surface, picture
    ("Paris and Lyon at night", "Paris", "red"),
    ("Lyon", "Lyon", "blue"),  # a sentence that is an entity's text, and a mention's string
    ("Paris and Lyon at night", "Lyon", "red"),
    ("A walk in Rome", "Rome", "wide"),
    (f"{LONG} Oslo", "Oslo", None),  # beyond the token limit
    ("Nothing stands here", "Oslo", "cut"),
    ("A walk in Rome", "walk", "blue"),
    ("Bern by day, Bern by night", "Bern", "flat"),
    ("The unbelievableness of Bern", "unbelievableness", "red"),  # repeated in another range of rows
]
SIZES = {"red": (40, 30), "blue": (64, 64), "green": (33, 50), "wide": (90, 20), "flat": (80, 21)}
SENTENCES = list(dict.fromkeys(sentence for sentence, *_ in MENTIONS))
LABELS = {"red": [1, 3], "blue": [3, 1, 1], "green": [2], "wide": [1], "flat": []}
SHARED = {"red"}  # pictures of an entity and of mentions
OF_MENTIONS = {"red", "blue", "wide", "flat"}
LIMIT, K, RANGES = 32, 3, 2  # of mentions in fours
BOTH = ("ghmfc", "dwe")
OF_BOTH = {part for part in kinds.on_demand() if part.kind not in ("patches", "states")} - {"entity.joint_tokens"}
DETECT = Objects._detect
TOKENS, CLIP_TOKENS = {"token.text", "mention.tokens"}, {"joint_token.joint", "mention.joint_tokens"}


class Attributes:
    """What the attributes part needs of its encoder; numbers that tell which vectors it was given."""

    def __init__(self, encode_texts, *, gender, race, temperature=100.0):
        self.recipe, self.sizes = {"gender": gender, "race": race}, {"A": 2, "F": 3}
        self._encode_texts = encode_texts

    def scene(self, images):
        return np.abs(images[:, :2]), np.tile(self._encode_texts(["a scene"]), (len(images), 1))

    def faces(self, crops):
        return np.abs(crops[:, :3]), 2 * crops

    def from_faces(self, faces):
        ages = np.array([[face.age, face.gender == "Man", len(face.race)] for face in faces], np.float32)
        return ages, np.repeat(ages[:, :1], 32, 1)


def detect(self, images):
    """Stand for the detector: boxes by size of the picture, and labels with people among them."""
    self.counts["pictures"] += len(images)
    names = {size: name for name, size in SIZES.items()}
    found = []
    for image in images:
        labels = np.array(LABELS[names[image.size]], np.int32)
        boxes = np.array([[1.2 + k, 2.3, 9.5 + 5 * k, 17.8] for k in range(len(labels))], np.float32).reshape(-1, 4)
        found.append({"boxes": boxes, "scores": np.linspace(0.9, 0.5, len(labels), dtype=np.float32), "labels": labels})
    return found


@pytest.fixture(scope="module", autouse=True)
def doubles():
    module = types.ModuleType("extract.attributes.by_clip")
    module.Attributes = Attributes
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "extract.attributes.by_clip", module)
        patch.setattr(Objects, "_detect", detect)
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    images = folder / "images"
    images.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
        Image.fromarray(pixels).resize(size).save(images / f"{name}.png")
    (images / "cut.png").write_bytes((images / "red.png").read_bytes()[:200])
    mentions = [
        mention_record(i, sentence, surface, picture and f"{picture}.png", caption=f"c{i}", split="train")
        for i, (sentence, surface, picture) in enumerate(MENTIONS)
    ]
    entities = [
        entity_record(i, name, text, picture and f"{picture}.png") for i, (name, text, picture) in enumerate(ENTITIES)
    ]
    return write_release(folder, mentions, entities)


config = partial(extract_config, sentence_tokens=LIMIT, shard_rows=4, image_batch=3, text_batch=3)


def extract(release, shards, **changes):
    return melcache.open(pipeline.run(config(release, shards, **changes)))


@pytest.fixture(scope="module")
def standard(release, tmp_path_factory):
    return extract(release, tmp_path_factory.mktemp("standard"))


@pytest.fixture(scope="module")
def extracted(release, tmp_path_factory):
    """A cache with the parts of both heads; tests only read it."""
    return extract(release, tmp_path_factory.mktemp("made"), heads=BOTH)


@pytest.fixture(scope="module")
def encoders():
    return Encoders(ExtractConfig(weights="random-tiny", device="cpu", text_batch=3, image_batch=3))


def counted(work):
    e = work.encoders
    return {
        "decoded": work.pictures.decoded,
        "bert": e.text.counts["texts"],
        "clip texts": e.joint.counts["texts"],
        "clip sentences": e.joint.counts["sentences token by token"],
        "clip pictures": e.joint.counts["pictures"],
        "clip crops": e.joint.counts["crops"],
        "resnet pictures": e.image.counts["pictures"],
        "detector": e.objects.counts["pictures"],
    }


def numbers(work):
    return {name: count for name, count in counted(work).items() if count}


def files(reader):
    return {shard.file: shard.sha256 for shard in reader.manifest.shards}


def picture_of(reader):
    """The picture of each mention row."""
    return [MENTIONS[int(name[1:])][2] for name in reader.strings("mention.ids.id")]


def sentence_of(reader):
    return [MENTIONS[int(name[1:])][0] for name in reader.strings("mention.ids.id")]


# --- which parts


@pytest.mark.parametrize(
    ("heads", "parts"),
    [
        ((), set()),
        (("drin", "bert", "clip"), set()),
        (("mel_hi",), TOKENS),
        (("ghmfc",), {*TOKENS, "mention.regions"}),
        (("dwe_authors",), {"mention.crops"}),
        (("dwe",), {*CLIP_TOKENS, "mention.crops", "mention.attributes"}),
        (BOTH, OF_BOTH),
        (("mention.patches",), {"mention.patches", "entity.patches"}),
        (("mel_hi", "entity_joint_token.states"), {*TOKENS, "entity_joint_token.states", "entity.joint_tokens"}),
    ],
)
def test_heads_ask_for_the_parts_that_they_read(heads, parts):
    assert ExtractConfig(heads=heads).demanded == parts


def test_an_unknown_head_is_one_line_that_names_those_that_exist():
    result = CliRunner().invoke(app, ["--for", "ghmfc,drim"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "--for ghmfc,drim: drim is not a head; there are drin, lexical, " in result.stderr
    with pytest.raises(ConfigError, match=r"--infer-gender and --infer-race .* add --for dwe"):
        ExtractConfig(infer_gender=True, heads=("ghmfc",))


def test_parts_on_demand_leave_the_standard_ones_as_they_are(standard, extracted):
    assert not OF_BOTH & standard.manifest.parts.keys()
    assert extracted.manifest.parts.keys() > OF_BOTH
    assert files(standard).items() < files(extracted).items()
    for part, spec in standard.manifest.parts.items():
        assert extracted.manifest.parts[part] == spec
    assert {**extracted.manifest.tables, **standard.manifest.tables} == extracted.manifest.tables


def test_heads_find_their_columns(extracted):
    for head in BOTH:
        assert set(extracted.require(head)) <= set(extracted.columns)


# --- tokens


def test_token_rows_are_the_last_layer_of_bert_on_each_sentence_alone(extracted, encoders):
    first, count = extracted.column("mention.tokens.first"), extracted.column("mention.tokens.count")
    vectors = extracted.column("token.text.vector").astype(np.float32)
    begins = {}
    for row, sentence in enumerate(sentence_of(extracted)):
        ids = encoders.text._tokenizer.encode(sentence).ids
        ids = ids if len(ids) <= LIMIT else [*ids[: LIMIT - 1], ids[-1]]
        with torch.inference_mode():
            hidden = encoders.text._loaded()(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        assert count[row] == len(ids)
        assert begins.setdefault(sentence, first[row]) == first[row]
        np.testing.assert_allclose(vectors[first[row] : first[row] + count[row]], hidden, atol=4e-3)
        assert (
            extracted.column("mention.text.sentence")[row] == extracted.column("token.text.vector")[first[row]]
        ).all()
    ends = sorted(
        (first[row], first[row] + count[row]) for row in {s: r for r, s in enumerate(begins.values())}.values()
    )
    assert sum({s: count[r] for r, s in enumerate(sentence_of(extracted))}.values()) == len(vectors)
    assert ends[0][0] == 0


def test_start_and_end_are_the_pieces_of_the_mention(extracted, encoders):
    def pieces_of(text):
        return len(encoders.text._tokenizer.encode(text).ids) - 2

    start, end, longest = extracted.column("mention.tokens.start"), extracted.column("mention.tokens.end"), 0
    for row, name in enumerate(extracted.strings("mention.ids.id")):
        sentence, surface, _ = MENTIONS[int(name[1:])]
        before = sentence.find(surface)
        if before >= 0 and pieces_of(sentence) + 2 <= LIMIT:  # these are whole words
            assert start[row] == 1 + pieces_of(sentence[:before])
            assert end[row] == start[row] + pieces_of(surface)
            longest = max(longest, pieces_of(surface))
        else:
            assert (start[row], end[row]) == (-1, -1)
    assert longest > 3 and (start < 0).sum() == 2


def test_the_mean_of_the_tokens_under_a_mention_is_its_span(extracted):
    columns = ("first", "start", "end", "count")
    first, start, end, count = (extracted.column(f"mention.tokens.{name}") for name in columns)
    vectors = extracted.column("token.text.vector").astype(np.float32)
    found = extracted.column("mention.text.found")
    assert 0 < found.sum() < len(found)
    for row, span in enumerate(extracted.column("mention.text.span").astype(np.float32)):
        if found[row]:
            assert 1 <= start[row] < end[row] < count[row]
            np.testing.assert_allclose(
                vectors[first[row] + start[row] : first[row] + end[row]].mean(0), span, atol=2e-3
            )
        else:
            assert (start[row], end[row]) == (-1, -1)


def test_a_batch_holds_the_tokens_of_its_mentions(extracted):
    table = Table(extracted, "mel_hi", torch.device("cpu"))
    order = torch.tensor([5, 0, 3, 2, 7])
    batch = table.batch(order)
    start, end = (extracted.column(f"mention.tokens.{name}")[order] for name in ("start", "end"))
    for i, row in enumerate(order.tolist()):
        present = batch["token.text.present"][i]
        assert int(present.sum()) == extracted.column("mention.tokens.count")[row]
        if start[i] >= 0:
            mean = batch["token.text.vector"][i, start[i] : end[i]].mean(0).numpy()
            np.testing.assert_allclose(mean, extracted.column("mention.text.span")[row].astype(np.float32), atol=2e-3)


def test_clip_token_rows_are_open_clips_own_states_and_end_in_the_sentence_vector(extracted, encoders, monkeypatch):
    model, tokenize = encoders.joint.model, open_clip.get_tokenizer("ViT-B-32")
    monkeypatch.setattr(model, "text_pool_type", "none")  # open_clip's way to return every token
    first, count = extracted.column("mention.joint_tokens.first"), extracted.column("mention.joint_tokens.count")
    vectors = extracted.column("joint_token.joint.vector").astype(np.float32)
    sentences = extracted.column("mention.joint.sentence").astype(np.float32)
    for row, sentence in enumerate(sentence_of(extracted)):
        ids = tokenize([sentence])
        assert count[row] == (ids[0] != 0).sum()
        with torch.inference_mode():
            states = model.encode_text(ids)[0, : count[row]].numpy()
        mine = vectors[first[row] : first[row] + count[row]]
        np.testing.assert_allclose(mine, states, atol=4e-3)
        np.testing.assert_allclose(mine[-1], sentences[row], atol=4e-3)
    assert count.max() == 77


def test_pieces_are_as_long_as_allowed_and_never_cut_a_unit():
    rng = random.Random(0)
    for _ in range(300):
        edges = np.cumsum([rng.randrange(50), *(rng.randrange(1, 9) for _ in range(rng.randrange(1, 30)))])
        size = rng.randrange(1, 20)
        found = pieces(edges, size)
        assert [begin for begin, _ in found] == [edges[0], *(end for _, end in found[:-1])]
        assert found[-1][1] == edges[-1]
        for begin, end in found:
            units = np.diff(edges[(edges >= begin) & (edges <= end)])
            assert units.sum() == end - begin  # both are edges
            assert end - begin <= size or len(units) == 1
            following = edges[edges > end]
            assert not len(following) or following[0] - begin > size


def test_a_wide_part_is_cut_into_shards_of_whole_sentences_with_the_same_rows(
    release, extracted, tmp_path, monkeypatch
):
    borders = set(extracted.column("mention.tokens.first").tolist()) | {extracted.manifest.tables["token"]}
    for size in (2, 3):  # the second run finds shards of the same rows and numbers, but of other places
        monkeypatch.setattr(shards, "SHARD_BYTES", size * (4 * 512 * 2 + 1))
        cut = extract(release, tmp_path, heads=BOTH)
        rows = [shard.rows for shard in cut.manifest.shards if shard.part == "mention.regions"]
        assert rows == {2: [2, 2, 1, 2, 2], 3: [3, 2, 3, 1]}[size]  # of ranges of five and four
        tokens = [shard for shard in cut.manifest.shards if shard.part == "token.text"]
        assert len(tokens) > RANGES
        assert {shard.stop for shard in tokens} <= borders
        assert [shard.file.split("-")[1][:5] for shard in tokens] == [f"{i:05d}" for i in range(len(tokens))]
        for name in extracted.columns:
            assert (extracted.column(name) == cut.column(name)).all(), name


# --- pictures


def test_the_mean_of_the_regions_is_the_pooled_vector(extracted):
    regions = extracted.column("mention.regions.vector").astype(np.float32)
    assert regions.shape[1:] == (4, 512)
    pooled = extracted.column("mention.image.vector").astype(np.float32)
    np.testing.assert_allclose(regions.mean(1), pooled, atol=3e-3)
    assert (extracted.column("mention.regions.present") == extracted.column("mention.image.present")).all()
    assert np.abs(regions - pooled[:, None]).max() > 0.1
    owners = {}
    for row, name in enumerate(picture_of(extracted)):
        key = name if extracted.column("mention.regions.present")[row] else "neutral"
        assert owners.setdefault(key, regions[row].tobytes()) == regions[row].tobytes()
    assert len(set(owners.values())) == 1 + len(OF_MENTIONS)


def test_regions_are_the_places_of_the_last_feature_map_row_by_row(encoders, monkeypatch):
    monkeypatch.setattr(encoders.image, "_side", 224)
    images = [Image.effect_noise((224, 224), 80 + i).convert("RGB") for i in range(4)]
    seen = []
    handle = encoders.image._loaded().layer4.register_forward_hook(lambda _m, _i, output: seen.append(output))
    try:
        pooled, regions = encoders.image.encode_regions(images)
    finally:
        handle.remove()
    maps = torch.cat(seen).numpy()
    assert regions.shape == (4, 49, 512) and encoders.image.regions == 49
    for y in range(7):
        for x in range(7):
            assert (regions[:, 7 * y + x] == maps[:, :, y, x]).all()
    assert (pooled == encoders.image.encode(images)).all()
    assert [values.shape for values in encoders.image.encode_regions([])] == [(0, 512), (0, 49, 512)]


def test_crops_are_clip_vectors_of_the_stored_boxes_cut_out(extracted, encoders, release):
    vectors, labels = extracted.column("mention.crops.vector"), extracted.column("mention.crops.labels")
    assert (labels == extracted.column("mention.objects.labels")).all()
    boxes, objects = extracted.column("mention.objects.boxes"), 0
    for row, name in enumerate(picture_of(extracted)):
        there = LABELS.get(name, [])
        assert labels[row].tolist() == there + [0] * (K - len(there))
        assert not vectors[row, len(there) :].any()
        for k in range(len(there)):
            left, top, right, bottom = boxes[row, k].tolist()
            with Image.open(release / "images" / f"{name}.png") as image:
                crop = image.convert("RGB").crop((int(left), int(top), -int(-right // 1), -int(-bottom // 1)))
            expected = encoders.joint.encode_images([crop])[0]
            np.testing.assert_allclose(vectors[row, k].astype(np.float32), expected, atol=4e-3)
            objects += 1
    assert objects > 8


def test_attributes_see_stored_vectors_and_are_zero_without_picture_or_person(extracted):
    images, present = (
        extracted.column("mention.joint.image").astype(np.float32),
        extracted.column("mention.joint.present"),
    )
    crops, labels = (
        extracted.column("mention.crops.vector").astype(np.float32),
        extracted.column("mention.crops.labels"),
    )
    columns = ("scene_probabilities", "scene", "face_probabilities", "faces")
    odds, scene, guesses, faces = (extracted.column(f"mention.attributes.{name}") for name in columns)
    assert 0 < present.sum() < len(present) and {0, 1, 2, 3} - set(labels.ravel().tolist()) <= {2}
    for row, there in enumerate(present):
        assert (odds[row] == (np.abs(images[row, :2]).astype(np.float16) if there else 0)).all()
        assert scene[row].any() == there
        for k, label in enumerate(labels[row]):
            assert (faces[row, k] == ((2 * crops[row, k]).astype(np.float16) if label == 1 else 0)).all()
            assert (guesses[row, k] == (np.abs(crops[row, k, :3]).astype(np.float16) if label == 1 else 0)).all()


def test_gender_and_race_are_off_unless_asked_for_and_the_cache_says_so(release, extracted, tmp_path):
    assert not [line for line in extracted.manifest.warnings if "inferred" in line]
    assert extracted.manifest.parts["mention.attributes"].recipe["attributes"] == {"gender": False, "race": False}
    asked = extract(release, tmp_path, heads=("dwe",), infer_gender=True)
    assert [line.split(" by ")[0] for line in asked.manifest.warnings[1:]] == ["gender inferred"]
    assert asked.manifest.parts["mention.attributes"].recipe["attributes"] == {"gender": True, "race": False}
    for part, spec in asked.manifest.parts.items():
        assert (spec.fingerprint == extracted.manifest.parts[part].fingerprint) == (part != "mention.attributes")


# --- faces of a file

FACES = {  # in no order
    "red_10": {"age": 12, "dominant_emotion": "sad"},
    "red_2": [{"age": 11, "dominant_emotion": "sad", "dominant_gender": "Man", "dominant_race": "white"}],
    "blue.png": [{"age": 20 + i, "dominant_emotion": "happy"} for i in range(K + 2)],
    "wide": [],
    "green": {"age": 50, "dominant_emotion": "sad"},  # an entity's picture
    "nobody_1": {"age": 60, "dominant_emotion": "sad"},
}


@pytest.fixture
def faces(tmp_path):
    path = tmp_path / "faces.json"
    path.write_text(json.dumps(FACES))
    return path


def test_faces_of_a_file_stand_for_clips_guesses(release, extracted, tmp_path, faces):
    given = extract(release, tmp_path, heads=BOTH, faces=faces)
    numbers, vectors = (given.column(f"mention.attributes.{name}") for name in ("face_probabilities", "faces"))
    expected = {"red": [11, 12], "blue": [20, 21, 22]}
    for row, name in enumerate(picture_of(given)):
        ages = expected.get(name, [])  # nothing is known of pictures that the file does not name
        assert numbers[row].tolist() == [[age, 0, 0] for age in ages] + [[0, 0, 0]] * (K - len(ages))
        assert (vectors[row] == numbers[row, :, :1]).all()
    for name in ("scene", "scene_probabilities"):
        assert (given.column(f"mention.attributes.{name}") == extracted.column(f"mention.attributes.{name}")).all()
    assert {what: n for what, n in given.manifest.coverage.items() if "faces" in what} == {
        "faces: given": 2 + K + 2,
        "faces: beyond --objects": 2,
        "faces: results for no picture of a mention": 2,
        "faces: pictures of mentions without a result": 2,  # flat, cut
    }
    assert not [line for line in given.manifest.warnings if "inferred" in line]
    for part, spec in given.manifest.parts.items():
        assert (spec.fingerprint == extracted.manifest.parts[part].fingerprint) == (part != "mention.attributes")
    assert extract(release, tmp_path, heads=BOTH, faces=faces).id == given.id
    faces.write_text(json.dumps(FACES | {"red_2": []}))
    assert extract(release, tmp_path, heads=BOTH, faces=faces).id != given.id


def test_a_new_mention_and_a_new_face_cost_the_shards_that_they_are_in(release, tmp_path, faces):
    def keys(release):
        plan = prepare(config(release, tmp_path, heads=("dwe",), faces=faces)).plan
        shards = (shard for of in plan.shards("mention") for shard in of if shard.part.name == "mention.attributes")
        return {(shard.start, shard.rows): shard.key for shard in shards}, plan.rows.mentions

    before, rows = keys(release)
    grown = shutil.copytree(release, tmp_path / "release")
    with (grown / "mentions.jsonl").open("a") as lines:
        lines.write('{"id": "new", "text": "red again", "mention": "red", "image": "images/red.png", "gold": "e0"}\n')
    after, _ = keys(grown)
    assert before.items() < after.items() and len(after) == len(before) + 1
    faces.write_text(json.dumps(FACES | {"wide": FACES["red_10"]}))
    wide = {row for row, mention in enumerate(rows) if mention.image and mention.image.path.stem == "wide"}
    changed = {
        row
        for (start, count), key in keys(release)[0].items()
        if before[start, count] != key
        for row in range(start, start + count)
    }
    assert wide <= changed and len(changed) < len(rows)


def test_gender_of_a_file_is_taken_only_if_asked_for_and_the_cache_says_so(release, tmp_path, faces):
    with pytest.raises(DatasetError, match=r"a face of 'red' has no dominant_gender, which --infer-gender asks for"):
        extract(release, tmp_path, heads=("dwe",), faces=faces, infer_gender=True)
    faces.write_text(json.dumps({"red": FACES["red_2"]}))
    asked = extract(release, tmp_path, heads=("dwe",), faces=faces, infer_gender=True)
    assert list(asked.manifest.warnings[1:]) == [
        "gender inferred by DeepFace from pictures of people: guesses, not facts about anyone"
    ]
    found = asked.column("mention.attributes.face_probabilities")[picture_of(asked).index("red"), 0]
    assert found.tolist() == [11, 1, 0]


def test_a_file_of_other_pictures_and_one_that_no_part_would_read_are_refused(release, tmp_path, faces):
    faces.write_text(json.dumps({"41487_1": FACES["red_10"]}))
    with pytest.raises(
        DatasetError, match="names no picture of a mention: its first is '41487_1', the release's 'red'"
    ):
        extract(release, tmp_path, heads=("dwe",), faces=faces)
    with pytest.raises(ConfigError, match="--faces is for heads that read attributes: add --for dwe"):
        ExtractConfig(faces=faces, heads=("ghmfc",))


def test_faces_and_descriptions_of_a_cache_are_not_left_out_unless_asked(release, extracted, tmp_path, faces):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"e1": "Lyon lies on two rivers."}))
    first = extract(release, tmp_path, heads=BOTH, faces=faces, descriptions=texts)
    for given, name in (({"faces": faces}, "descriptions"), ({"descriptions": texts}, "faces")):
        message = rf"world was made with {name}; give --{name} again, or --{name} none to remove them"
        with pytest.raises(ConfigError, match=message):
            extract(release, tmp_path, heads=BOTH, **given)
        assert melcache.open(tmp_path / "world").id == first.id
    assert extract(release, tmp_path, heads=BOTH, faces=Path("none"), descriptions=Path("none")).id == extracted.id
    assert extract(release, tmp_path, heads=BOTH).id == extracted.id


# --- once, and again


def test_every_sentence_and_picture_is_encoded_once(release, tmp_path, watched):
    extract(release, tmp_path, heads=BOTH)
    texts = {f"{name}: {text}" if text else name for name, text, _ in ENTITIES}
    strings = {surface for _, surface, _ in MENTIONS} | {f"{m[1]} [SEP] {m[0]}" for m in MENTIONS}
    assert counted(watched[0]) == {
        "decoded": len(SIZES) + 1 + len(SHARED),  # the broken one; shared ones for entities and for mentions
        "bert": len(texts) + len(SENTENCES),  # mention.text and token.text of one pass
        "clip texts": len(texts | strings | set(SENTENCES)) + RANGES,  # and the attributes' one
        "clip sentences": len(SENTENCES),
        "clip pictures": len(SIZES) + 1,  # the neutral one
        "clip crops": sum(len(LABELS[name]) for name in OF_MENTIONS),
        "resnet pictures": len(SIZES) + 1 + len(SHARED) + 1,  # the neutral one's regions
        "detector": len(SIZES),
    }


def test_a_second_run_for_other_heads_adds_only_their_parts(release, extracted, tmp_path, watched):
    first = extract(release, tmp_path, heads=("ghmfc",))
    second = extract(release, tmp_path, heads=("dwe",))
    assert second.id == extracted.id  # what the first run made is still listed
    assert files(first).items() < files(second).items()
    assert watched[1].draft.kept == watched[0].draft.made
    assert watched[1].draft.made == len(files(second)) - len(files(first))
    assert numbers(watched[1]) == {  # no detector: boxes are stored; no ResNet, no BERT
        "decoded": len(OF_MENTIONS),
        "clip texts": RANGES,
        "clip sentences": len(SENTENCES),
        "clip crops": sum(len(LABELS[name]) for name in OF_MENTIONS),
    }


def test_tokens_and_regions_added_later_are_those_of_one_run(release, extracted, tmp_path, watched):
    extract(release, tmp_path)
    assert extract(release, tmp_path, heads=("dwe",)).id != extracted.id
    assert extract(release, tmp_path, heads=("ghmfc",)).id == extracted.id
    assert numbers(watched[2]) == {
        "decoded": len(OF_MENTIONS),
        "bert": len(SENTENCES),
        "resnet pictures": len(OF_MENTIONS) + 1,
    }


def test_a_run_without_for_keeps_the_parts_that_the_cache_lists(release, extracted, tmp_path, watched):
    folder = tmp_path / "world"
    shutil.copytree(extracted.path, folder)
    assert extract(release, tmp_path).id == extracted.id
    assert numbers(watched[0]) == {} and watched[0].draft.made == 0
    damaged = next(folder.glob("mention.regions-*"))
    damaged.unlink()
    assert extract(release, tmp_path).id == extracted.id
    assert watched[1].draft.made == 1


def test_a_listed_part_that_would_be_made_otherwise_now_is_left_out(release, extracted, tmp_path, capsys):
    shutil.copytree(extracted.path, tmp_path / "world")
    asked = extract(release, tmp_path, heads=("dwe",), infer_race=True)
    assert "mention.regions" in asked.manifest.parts
    capsys.readouterr()
    plain = extract(release, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 1 and said[0].startswith("mention.attributes of the cache in ")
    assert plain.manifest.parts.keys() == extracted.manifest.parts.keys() - {"mention.attributes"}
    assert not [line for line in plain.manifest.warnings if "inferred" in line]
    assert extract(release, tmp_path, heads=("dwe",)).id == extracted.id


def test_where_tokens_lie_is_not_kept_without_the_tokens(release, extracted, tmp_path, capsys, monkeypatch):
    build = Bert.__init__

    def other(self, *arguments):
        build(self, *arguments)
        self.recipe = self.recipe | {"weights": "others"}  # the tokenizer is the same

    shutil.copytree(extracted.path, tmp_path / "world")
    monkeypatch.setattr(Bert, "__init__", other)
    renewed = extract(release, tmp_path)
    assert renewed.manifest.parts.keys() == extracted.manifest.parts.keys() - TOKENS
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert [line.split(" of ")[0] for line in said] == ["token.text", "mention.tokens"]
    assert "token" not in renewed.manifest.tables
    again = extract(release, tmp_path, heads=("ghmfc",))
    assert again.manifest.parts.keys() == extracted.manifest.parts.keys()


def test_shards_of_an_unfinished_run_are_no_part_of_a_cache_that_was_not_asked_for_them(
    release, standard, extracted, tmp_path
):
    shutil.copytree(extracted.path, tmp_path / "world")
    (tmp_path / "world" / "manifest.json").unlink()
    assert extract(release, tmp_path).id == standard.id
    again = extract(release, tmp_path, heads=BOTH)
    assert again.id == extracted.id


def test_limit_works_with_parts_on_demand(release, extracted, tmp_path):
    few = extract(release, tmp_path, heads=BOTH, limit=4)
    assert few.manifest.tables["token"] < extracted.manifest.tables["token"]
    rows = [extracted.strings("mention.ids.id").index(name) for name in few.strings("mention.ids.id")]
    assert 0 < len(rows) < len(MENTIONS)
    for name in ("mention.crops.labels", "mention.tokens.count", "mention.tokens.start", "mention.joint_tokens.count"):
        assert (few.column(name) == extracted.column(name)[rows]).all()
    assert few.column("mention.tokens.first").max() < few.manifest.tables["token"]


# --- keys


def test_other_clip_weights_change_what_derives_from_clip_and_nothing_else(release, extracted, tmp_path, monkeypatch):
    build = Clip.__init__

    def other(self, *arguments):
        build(self, *arguments)
        self.recipe = self.recipe | {"weights": "others"}

    monkeypatch.setattr(Clip, "__init__", other)
    renewed = extract(release, tmp_path, heads=BOTH)
    parts = {name: spec.fingerprint for name, spec in extracted.manifest.parts.items()}
    changed = {name for name, spec in renewed.manifest.parts.items() if spec.fingerprint != parts[name]}
    derived = {"joint_token.joint", "mention.crops", "mention.attributes", "pair.alignment"}
    assert changed == {"entity.joint", "mention.joint", *derived}
    assert extracted.manifest.parts["mention.crops"].inputs.keys() == {"mention.objects"}
    assert extracted.manifest.parts["mention.attributes"].inputs.keys() == {"mention.joint", "mention.crops"}


def changed_parts(release, reader, tmp_path, edit):
    """The parts some of whose shards another release in the same folder lacks."""
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    edit(copy)
    other = extract(copy, tmp_path, heads=BOTH)
    fresh = extract(copy, tmp_path / "fresh", heads=BOTH)
    assert other.id == fresh.id
    return {name.split("-")[0] for name in files(reader).keys() - files(other).keys()} & OF_BOTH


def replaced(old, new):
    def edit(folder):
        path = folder / "mentions.jsonl"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def test_a_moved_span_encodes_no_token_anew(release, extracted, tmp_path):
    shutil.copytree(extracted.path, tmp_path / "world")
    edit = replaced('"mention": "Bern", "start": 0, "end": 4', '"mention": "Bern", "start": 13, "end": 17')
    changed = {"mention.tokens", "mention.joint_tokens", "mention.attributes"}  # the key of mention.joint has the span
    assert changed_parts(release, extracted, tmp_path, edit) == changed


def test_a_longer_sentence_moves_all_tokens_behind_it(release, extracted, tmp_path):
    shutil.copytree(extracted.path, tmp_path / "world")
    edit = replaced('"text": "Lyon"', '"text": "Lyon by the river"')
    assert changed_parts(release, extracted, tmp_path, edit) == {*TOKENS, *CLIP_TOKENS, "mention.attributes"}
    grown = melcache.open(tmp_path / "world")
    kept = [name for name in files(extracted).keys() & files(grown).keys() if name.startswith("token.text")]
    moved = [name for name in files(extracted).keys() & files(grown).keys() if name.startswith("mention.tokens")]
    assert kept and not moved


def test_a_picture_that_an_entity_has_too_is_known_to_the_keys(release, extracted, tmp_path):
    """Its regions are then encoded in another batch, which decides their last bits."""
    shutil.copytree(extracted.path, tmp_path / "world")

    def edit(folder):
        path = folder / "entities.jsonl"
        path.write_text(path.read_text().replace("green.png", "blue.png"))

    assert {"mention.regions", "mention.crops"} <= changed_parts(release, extracted, tmp_path, edit)


# --- interruption


class Killed(BaseException):
    pass


@pytest.fixture
def killer(monkeypatch):
    """Let a run publish `left[0]` shards and then die."""
    left, save = [0], Draft.save

    def dying(self, shard):
        if not left[0]:
            raise Killed
        left[0] -= 1
        save(self, shard)

    monkeypatch.setattr(Draft, "save", dying)
    return left


def test_a_run_killed_after_any_shard_is_resumed_to_the_same_cache(
    release, standard, extracted, tmp_path, killer, monkeypatch
):
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    killer[0] = -1  # never
    whole = extract(release, tmp_path / "whole", heads=BOTH)
    shutil.copytree(standard.path, tmp_path / "world")
    kills = 0
    while True:
        killer[0] = 1
        try:
            resumed = extract(release, tmp_path, heads=BOTH)
            break
        except Killed:
            kills += 1
            assert melcache.open(tmp_path / "world").id == standard.id and kills < 500
    assert resumed.id == whole.id
    assert kills >= RANGES * len(OF_BOTH)
    for name in extracted.columns:
        assert (extracted.column(name) == resumed.column(name)).all(), name


@pytest.mark.parametrize("seed", range(8))
def test_lost_shards_of_any_part_are_made_again(release, extracted, tmp_path, watched, seed):
    folder = tmp_path / "world"
    shutil.copytree(extracted.path, folder)
    rng = random.Random(seed)
    paths = sorted(folder.glob("*.h5"))
    lost = rng.sample(paths, rng.randrange(1, len(paths)))
    take_back(folder)
    for path in lost:
        path.unlink()
    assert extract(release, tmp_path, heads=BOTH).id == extracted.id
    assert watched[0].draft.made == len(lost)


@pytest.mark.slow  # 40 s
def test_the_whole_demo_has_what_both_heads_read(tmp_path):
    shards = tmp_path / "shards"
    wanted = ExtractConfig(
        dataset="demo", data=tmp_path / "demo", shards=shards, weights="random-tiny", device="cpu", heads=BOTH
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "_detect", DETECT)
        reader = melcache.open(pipeline.run(wanted))
    table = Table(reader, "mel_hi", torch.device("cpu"))
    for head in BOTH:
        reader.require(head)
    start, end = reader.column("mention.tokens.start"), reader.column("mention.tokens.end")
    spans = reader.column("mention.text.span").astype(np.float32)
    for rows in torch.arange(len(start)).split(256):
        tokens = table.batch(rows)["token.text.vector"].numpy()
        for vectors, row in zip(tokens, rows.tolist(), strict=True):
            if start[row] >= 0:
                np.testing.assert_allclose(vectors[start[row] : end[row]].mean(0), spans[row], atol=4e-3)
