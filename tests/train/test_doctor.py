"""What the doctor counts, on six mentions written by hand, and on the real releases where they are."""

import json

import numpy as np
from typer.testing import CliRunner

from train.cli import app
from train.inspecting import doctor


def digest(number):
    return np.full(32, number, np.uint8)


def columns():
    # row: text, surface, split bits, gold, picture
    rows = [
        (1, b"Vail", 1, 0, 11),
        (2, b"Vail", 1, 0, 12),
        (3, b"Vail", 1, 1, 0),  # no picture
        (4, b"Alps", 1, 2, 13),
        (1, b"Vail", 4, 0, 11),  # repeats the first; its picture is that of entity 0, its gold
        (5, b"Vail", 6, 1, 12),  # in valid and test; its picture is that of entity 1, its gold
        (6, b"Rome", 4, 3, 11),  # never seen; the picture of another entity
        (7, b"Alps", 4, -1, 0),  # nil
    ]
    return {
        "mention.ids.content_text": np.stack([digest(row[0]) for row in rows]),
        "mention.ids.surface": np.array([row[1] for row in rows]),
        "mention.ids.splits": np.array([row[2] for row in rows], np.uint8),
        "mention.ids.gold": np.array([row[3] for row in rows], np.int32),
        "mention.ids.content_image": np.stack([digest(row[4]) for row in rows]),
        "entity.ids.content_image": np.stack([digest(11), digest(12), digest(0), digest(99)]),
    }


def test_every_count_is_what_a_person_counts():
    found = doctor.diagnose(columns())
    assert found["train"] == {"mentions": 4, "in_another_split": 0, "picture_of_an_entity": 2, "picture_of_gold": 1}
    assert found["test"] == {
        "mentions": 4,
        "in_another_split": 1,
        "repeated": 1,
        "picture_of_an_entity": 3,
        "picture_of_gold": 2,
        "gold_in_train": 2,
        "surface_in_train": 3,
        "prior": 1.0,  # Vail means entity 0, twice of three times
    }
    assert found["valid"]["mentions"] == 1
    assert found["valid"]["prior"] == 0


def test_tied_meanings_share_the_credit():
    tied = columns()
    tied["mention.ids.splits"] = np.array([1, 2, 1, 1, 4, 6, 4, 4], np.uint8)
    assert doctor.diagnose(tied)["test"]["prior"] == 0.5 + 0.5
    half = {"dataset": "x", "splits": {split: {"mentions": 4, "prior": 1.5} for split in ("train", "valid", "test")}}
    assert doctor.show(half).splitlines()[-1].endswith("1.5 (37.5%)")


def test_a_cache_without_ids_is_one_line(toy_cache):
    run = CliRunner().invoke(app, ["doctor", "--dataset", str(toy_cache)])
    assert run.exit_code == 2
    assert "lacks mention.ids.surface" in run.stderr
    assert run.stderr.count("\n") == 1


def test_the_table_and_json_say_the_same():
    found = {"dataset": "toy", "cache_id": "x", "splits": doctor.diagnose(columns())}
    shown = doctor.show(found).splitlines()
    assert shown[0].split() == ["toy", "train", "valid", "test"]
    assert any(line.startswith("are right by the commonest") and line.endswith("1 (25.0%)") for line in shown)
    assert json.loads(json.dumps(found))["splits"]["test"]["repeated"] == 1
