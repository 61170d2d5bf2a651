"""The adapters on the real releases of ../shared/data, against figures counted there by other means."""

from pathlib import Path

import pytest

from common.records import SPLITS
from extract.datasets import load
from extract.reading.string_columns import StringColumn
from train.data import splits

DATA = Path(__file__).parents[3] / "shared" / "data"


def release_of(name: str):
    if not (DATA / name).is_dir():
        pytest.skip(f"the real release of {name} is not here: no folder ../shared/data/{name}")
    return load(name, DATA / name)


@pytest.fixture(scope="module")
def wikimel():
    return release_of("wikimel")


@pytest.fixture(scope="module")
def wikidiverse():
    return release_of("wikidiverse")


def in_split(dataset, split: str) -> int:
    return sum(mention.splits >> SPLITS.index(split) & 1 for mention in dataset.mentions)


def test_wikimel_has_its_published_size(wikimel):
    assert (len(wikimel.mentions), len(wikimel.entities)) == (25_846, 18_880)
    assert {split: in_split(wikimel, split) for split in SPLITS} == {"train": 18_088, "valid": 2_627, "test": 5_131}


def test_wikimel_findings(wikimel):
    assert wikimel.counts == {
        "captions": 22_136,
        "ids without text": 2_281,
        "spans not found": 740,
        "spans found more than once": 298,
        "entities that name no picture": 18_880,
    }


def test_wikimel_spans_are_the_mentions(wikimel):
    found = [mention for mention in wikimel.mentions if mention.start >= 0]
    assert len(found) == 25_846 - 740
    assert all(mention.sentence[mention.start : mention.end] == mention.surface for mention in found)


def test_wikimel_entities_have_names_and_texts_and_hold_every_gold(wikimel):
    entities = {entity.id: entity for entity in wikimel.entities}
    assert entities["Q1000070"].name == "Myron V. George"
    assert entities["Q1000070"].text.startswith("Sex: male. Birth: 1900, Erie.")
    assert {mention.gold for mention in wikimel.mentions} <= entities.keys()


def test_wikimel_pictures_are_found_by_caption(wikimel):
    images = {mention.caption: mention.image.path for mention in wikimel.mentions}
    there = {caption for caption, path in images.items() if path.exists()}
    assert len(images) == 22_136
    assert there == {path.stem for path in (DATA / "wikimel" / "images").iterdir()}
    assert len(there) == 38


def test_wikidiverse_has_its_size(wikidiverse):
    assert (len(wikidiverse.mentions), len(wikidiverse.entities)) == (14_851, 7_643)
    assert {split: in_split(wikidiverse, split) for split in SPLITS} == {"train": 11_204, "valid": 1_663, "test": 2_044}


def test_wikidiverse_findings(wikidiverse):
    assert wikidiverse.counts == {
        "captions": 7_405,
        "captions in more than one split": 23,  # 29 pairs of lists: 3 of the ids stand in all three
        "mentions in more than one split": 54,
        "captions with the blank picture": 238,
        "spans found more than once": 322,
        "entities without text": 7_643,
        "entities that name no picture": 7_643,
    }


def test_wikidiverse_ids_in_several_lists_make_29_pairs(wikidiverse):
    masks = {mention.caption: mention.splits for mention in wikidiverse.mentions}
    pairs = {both: sum(mask & both == both for mask in masks.values()) for both in (0b101, 0b011, 0b110)}
    assert pairs == {0b101: 14, 0b011: 11, 0b110: 4}  # train and test, train and valid, valid and test


def test_wikidiverse_every_mention_stands_in_its_sentence(wikidiverse):
    assert all(mention.sentence[mention.start : mention.end] == mention.surface for mention in wikidiverse.mentions)


@pytest.mark.parametrize(
    "name, whose", [("wikimel", "MEL-GHMFC's of WikiMEL"), ("wikidiverse", "KGMEL's of WikiDiverse")]
)
def test_the_split_of_each_release_is_known_by_its_digest(name, whose, request):
    mentions = request.getfixturevalue(name).mentions
    columns = [StringColumn(mentions, column)[:].tolist() for column in ("id", "surface")]
    assert splits.KNOWN[splits.digest(columns, [m.splits for m in mentions])[:16]] == whose
