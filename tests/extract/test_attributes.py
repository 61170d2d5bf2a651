"""Zero-shot attributes against loops over the definition, and DeepFace's JSON."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from common.errors import DatasetError
from common.records import Dataset, Face, Image, Mention
from extract.attributes import faces, prompts
from extract.attributes.by_clip import Attributes
from extract.attributes.faces import load_deepface

WIDTH = 24


def vector(text):
    """A fixed direction for each text, not of length 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return (3 * np.random.default_rng(seed).standard_normal(WIDTH)).astype(np.float32)


class Encoder:
    """Stands for CLIP's text side; remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return np.array([vector(text) for text in texts], np.float32).reshape(-1, WIDTH)


def pictures(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def asked_by_hand(picture, questions):
    """Probabilities in order, and the sentence, of one picture: sums one by one."""
    probabilities, parts = [], []
    for question in questions:
        powers = []
        for prompt in question.prompts.values():
            other = vector(prompt)
            dot = sum(float(a) * float(b) for a, b in zip(picture, other, strict=True))
            lengths = math.sqrt(sum(float(a) ** 2 for a in picture)) * math.sqrt(sum(float(b) ** 2 for b in other))
            powers.append(math.exp(100 * dot / lengths - 100))
        probabilities += [power / sum(powers) for power in powers]
        parts.append(f"{question.name}: {list(question.prompts)[powers.index(max(powers))]}")
    return probabilities, ", ".join(parts)


def on(*names):
    return [question for question in prompts.FACE if question.name in names]


# --- probabilities and sentences


def test_scene_is_a_softmax_of_100_cosine_within_each_question_and_the_sentence_of_the_likeliest():
    encoder, images = Encoder(), pictures(9)
    probabilities, vectors = Attributes(encoder, gender=False, race=False).scene(images)
    assert probabilities.dtype == vectors.dtype == np.float32
    assert vectors.shape == images.shape
    for row, picture in enumerate(images):
        expected, sentence = asked_by_hand(picture, prompts.SCENE)
        np.testing.assert_allclose(probabilities[row], expected, atol=1e-6)
        np.testing.assert_array_equal(vectors[row], vector(sentence))


@pytest.mark.parametrize(
    ("gender", "race", "names"),
    [
        (False, False, ("age", "emotion")),
        (True, False, ("gender", "age", "emotion")),
        (False, True, ("race", "age", "emotion")),
        (True, True, ("gender", "race", "age", "emotion")),
    ],
)
def test_gender_and_race_are_asked_only_on_request_in_the_order_of_the_authors(gender, race, names):
    encoder, crops = Encoder(), pictures(5, seed=1)
    attributes = Attributes(encoder, gender=gender, race=race)
    assert attributes.sizes["F"] == sum(len(question.prompts) for question in on(*names))
    assert attributes.recipe["face"] == list(names)
    probabilities, vectors = attributes.faces(crops)
    assert probabilities.shape == (5, attributes.sizes["F"])
    for row, crop in enumerate(crops):
        expected, sentence = asked_by_hand(crop, on(*names))
        assert [part.split(": ")[0] for part in sentence.split(", ")] == list(names)
        np.testing.assert_allclose(probabilities[row], expected, atol=1e-6)
        np.testing.assert_array_equal(vectors[row], vector(sentence))
    unasked = {
        prompt for question in prompts.FACE if question.name not in names for prompt in question.prompts.values()
    }
    assert not unasked & {text for call in encoder.calls for text in call}


def test_a_picture_of_a_prompt_is_answered_with_it():
    attributes = Attributes(Encoder(), gender=True, race=True)
    for questions, ask in ((prompts.SCENE, attributes.scene), (prompts.FACE, attributes.faces)):
        column = 0
        for question in questions:
            for prompt in question.prompts.values():
                assert ask(7 * vector(prompt)[None])[0][0, column] > 0.99
                column += 1


def test_a_row_of_zeros_gets_zeros_and_no_sentence():
    encoder, images = Encoder(), pictures(3)
    images[1] = 0
    attributes = Attributes(encoder, gender=False, race=False)
    for probabilities, vectors in (attributes.scene(images), attributes.faces(images)):
        assert not probabilities[1].any() and not vectors[1].any()
        assert probabilities[[0, 2]].any(1).all() and vectors[[0, 2]].any(1).all()
    blank = attributes.faces(np.zeros((2, WIDTH), np.float32))
    assert not blank[0].any() and not blank[1].any()


def test_no_pictures_give_empty_tables_of_the_right_widths():
    attributes = Attributes(Encoder(), gender=True, race=False)
    nothing = np.zeros((0, WIDTH), np.float32)
    for (probabilities, vectors), size in (
        (attributes.scene(nothing), "A"),
        (attributes.faces(nothing), "F"),
        (attributes.from_faces([]), "F"),
    ):
        assert probabilities.shape == (0, attributes.sizes[size])
        assert vectors.shape == (0, WIDTH)


def test_each_sentence_is_encoded_once_and_alone_whatever_comes_together():
    images = pictures(40)
    whole, apart = Encoder(), Encoder()
    together = Attributes(whole, gender=False, race=False)
    single = Attributes(apart, gender=False, race=False)
    expected = together.scene(images)
    for row in np.random.default_rng(3).permutation(len(images)):
        probabilities, vectors = single.scene(images[[row]])
        np.testing.assert_array_equal(probabilities[0], expected[0][row])
        np.testing.assert_array_equal(vectors[0], expected[1][row])
    together.scene(images)
    for encoder in (whole, apart):
        sentences = [text for call in encoder.calls[1:] for text in call]
        assert all(len(call) == 1 for call in encoder.calls[1:])
        assert len(sentences) == len(set(sentences)) > 10


def test_nothing_is_encoded_before_the_first_picture():
    encoder = Encoder()
    attributes = Attributes(encoder, gender=True, race=True)
    assert attributes.sizes["A"] and attributes.recipe
    assert encoder.calls == []


# --- the recipe


def test_the_recipe_changes_with_the_questions_and_with_any_word_of_theirs(monkeypatch):
    def recipe(**asked):
        return Attributes(Encoder(), **({"gender": False, "race": False} | asked)).recipe

    first = recipe()
    assert json.loads(json.dumps(first)) == first
    assert first == recipe()
    assert len({json.dumps(r) for r in (first, recipe(gender=True), recipe(race=True))}) == 3
    age = on("age")[0]
    worded = prompts.Question("age", age.prompts | {"child": "a photo of a small child"})
    monkeypatch.setattr(prompts, "FACE", tuple(worded if q.name == "age" else q for q in prompts.FACE))
    assert recipe()["digest"] != first["digest"]


def test_the_words_of_unasked_questions_are_not_in_the_recipe(monkeypatch):
    first = Attributes(Encoder(), gender=False, race=False).recipe
    monkeypatch.setattr(prompts, "FACE", tuple(q for q in prompts.FACE if q.name not in ("gender", "race")))
    assert Attributes(Encoder(), gender=False, race=False).recipe == first


def test_prompts_and_words_of_a_question_differ_and_the_list_has_a_version():
    assert prompts.VERSION == 1
    for question in (*prompts.SCENE, *prompts.FACE):
        assert len(set(question.prompts.values())) == len(question.prompts) > 1
        assert not any(", " in word or ": " in word for word in (question.name, *question.prompts))
    everything = [prompt for q in (*prompts.SCENE, *prompts.FACE) for prompt in q.prompts.values()]
    assert len(set(everything)) == len(everything)
    assert len(on("age")[0].prompts) == len(prompts.AGE_ENDS) + 1


# --- DeepFace

FACE = {
    "age": 32,
    "region": {"x": 1, "y": 2, "w": 3, "h": 4},
    "dominant_gender": "Man",
    "dominant_race": "middle eastern",
    "dominant_emotion": "angry",
    "emotion": {"angry": 43.2},
}
READ = Face(32, "angry", "Man", "middle eastern")


def write_json(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_deepface_is_read_as_the_authors_keep_it_one_file_a_picture(tmp_path):
    write_json(tmp_path / "41487_1.json", [FACE, FACE | {"age": 5.5}])
    write_json(tmp_path / "41487_2.json", [])
    assert load_deepface(tmp_path) == {
        "41487_1": [READ, Face(5.5, "angry", "Man", "middle eastern")],
        "41487_2": [],
    }


@pytest.mark.parametrize("value", [FACE, [FACE]])
def test_deepface_of_one_picture_is_named_by_its_file(tmp_path, value):
    assert load_deepface(write_json(tmp_path / "7_1.json", value)) == {"7_1": [READ]}


def test_deepface_of_many_pictures_is_a_mapping_of_faces_or_lists(tmp_path):
    unasked = {"age": 40, "dominant_emotion": "sad"}
    path = write_json(tmp_path / "faces.json", {"7_1.jpg": FACE, "St. Peter": [FACE, unasked], "8_1.PNG": []})
    assert load_deepface(path) == {"7_1": [READ], "St. Peter": [READ, Face(40, "sad")], "8_1": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a.jpg": FACE | {"age": "32"}}, r"entry 'a.jpg': age must be a number of years, 0 to 150, found '32'"),
        ({"a.jpg": [FACE, FACE | {"age": -1}]}, r"entry 'a.jpg': age must be .* found -1"),
        ({"a.jpg": FACE | {"age": True}}, r"age must be .* found True"),
        ('{"a.jpg": {"age": NaN}}', r"age must be .* found nan"),
        ({"a.jpg": FACE | {"dominant_gender": "male"}}, r"dominant_gender must be one of Woman, Man; found 'male'"),
        ({"a.jpg": FACE | {"dominant_race": ["white"]}}, r"dominant_race must be a string, found \['white'\]"),
        ({"a.jpg": {"age": 3}}, r"dominant_emotion must be one of angry, .*; found ''"),
        ({"a.jpg": [[FACE]]}, r"entry 'a.jpg': a face must be a mapping"),
        ({"a.jpg": FACE, "a.png": FACE}, r"entry 'a.png': picture 'a' is listed already"),
        ({}, r"names no picture"),
        ("3", r"the whole file must be a mapping, found 3"),
        ("{", r"is not JSON"),
    ],
)
def test_a_mistake_in_deepface_output_is_one_line_naming_file_and_entry(tmp_path, value, message):
    with pytest.raises(DatasetError, match=r"faces\.json.*" + message) as caught:
        load_deepface(write_json(tmp_path / "faces.json", value))
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_a_missing_file_are_errors(tmp_path):
    with pytest.raises(DatasetError, match="names no picture"):
        load_deepface(tmp_path)
    with pytest.raises(DatasetError, match=r"gone\.json cannot be read"):
        load_deepface(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("age", "group"),
    [(0, 0), (12, 0), (12.9, 0), (13, 1), (19, 1), (20, 2), (39, 2), (40, 3), (64, 3), (65, 4), (150, 4)],
)
def test_deepface_answers_become_ones_and_the_sentence_of_the_authors(age, group):
    attributes = Attributes(Encoder(), gender=True, race=True)
    probabilities, vectors = attributes.from_faces([Face(age, "happy", "Woman", "latino hispanic")])
    expected = np.zeros(attributes.sizes["F"], np.float32)
    for begin, at in ((0, 0), (2, 5), (8, group), (13, 3)):  # Woman; latino hispanic; the age; happy
        expected[begin + at] = 1
    np.testing.assert_array_equal(probabilities[0], expected)
    sentence = f"gender: Woman, race: latino hispanic, age: {age}, emotion: happy"
    np.testing.assert_array_equal(vectors[0], vector(sentence))


def test_gender_and_race_of_deepface_are_dropped_unless_asked_for():
    attributes = Attributes(encoder := Encoder(), gender=False, race=False)
    probabilities, vectors = attributes.from_faces([READ, Face(32.0, "angry", "Woman", "black")])
    assert probabilities.shape == (2, 12)
    np.testing.assert_array_equal(vectors[0], vector("age: 32, emotion: angry"))
    np.testing.assert_array_equal(vectors[1], vectors[0])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert encoder.calls == [["age: 32, emotion: angry"]]


def test_a_face_without_what_was_asked_for_is_an_error():
    with pytest.raises(DatasetError, match=r"face 1 of 2 has no race, which was asked for: run DeepFace\.analyze"):
        Attributes(Encoder(), gender=False, race=True).from_faces([READ, Face(3, "sad", "Man")])


@pytest.mark.parametrize("there, named", [("cafe\u0301", "caf\u00e9"), ("caf\u00e9", "cafe\u0301")])
def test_faces_are_those_of_a_picture_however_a_mac_wrote_its_name(tmp_path, there, named):
    mention = Mention("m", "m", "Ann", "Ann", 0, 3, None, 1, Image(Path(f"{there}.jpg")))
    found = faces.add(
        Dataset("x", [mention], []),
        write_json(tmp_path / "f.json", {f"{named}_1.jpg": FACE}),
        3,
        gender=True,
        race=True,
    )
    assert found.mentions[0].faces == (READ,)
