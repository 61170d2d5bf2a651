"""Rows of large releases: entities as columns, owners by hashes, ids that are seen twice; against plain Python."""

import hashlib
import json
import random
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cache import kinds
from cache.fingerprint import content_hash, digest, digest_of_list
from cache.names import PartName
from common.records import Entity, Image, Mention
from extract.planning.duplicates import Owners
from extract.planning.layout import Layout
from extract.planning.rows import Rows, entity_text, mention_texts
from extract.reading import readers
from extract.reading.entity_columns import Entities, field, pictures
from extract.reading.string_columns import StringColumn, stored

WORDS = ("", "a", "Ω", "\ud800", "a\0b", "ab" * 200, "é" * 129, '\\"', "harbor")
IMAGES = (None, Image(None, "name"), Image(Path("images/1.jpg")), Image(Path("\udce9.png"), "blank"), Image(None))


def some(count, seed=0, descriptions=WORDS):
    rng = random.Random(seed)
    pick = rng.choice
    return [Entity(f"Q{row}", pick(WORDS), pick(WORDS), pick(IMAGES), pick(descriptions)) for row in range(count)]


@pytest.mark.parametrize("count", [0, 1, 1023, 2500])
def test_columns_give_back_every_entity(count):
    entities = some(count)
    columns = Entities(entities)
    assert list(columns) == entities and columns == entities and entities == columns
    assert [columns[row] for row in range(count)] == entities
    for cut in (slice(None), slice(3, 1030), slice(-5, None), slice(None, None, -1), slice(7, 3), slice(1, 40, 3)):
        assert columns[cut] == entities[cut]
        assert field(columns, "name")[cut] == [entity.name for entity in entities][cut]
    assert list(pictures(columns)) == [entity.image for entity in entities]


def test_columns_differ_where_an_entity_does_and_end_where_it_ends():
    entities = some(10)
    assert Entities(entities) != entities[:-1]
    assert Entities(entities) != [*entities[:-1], Entity("Q9", "another")]
    with pytest.raises(IndexError):
        Entities(entities)[10]


def test_a_field_that_no_entity_has_is_blank():
    columns = Entities([Entity("a", "A"), Entity("b", "B")])
    assert list(field(columns, "text")) == ["", ""] == field(columns, "text")[:]
    assert list(columns) == [Entity("a", "A"), Entity("b", "B")]


@pytest.mark.parametrize("records", [some(50), Entities(some(50))], ids=["records", "columns"])
def test_a_column_of_strings_holds_what_each_text_is_stored_as(records):
    column = StringColumn(records, "name")
    assert column.dtype == "|S256"
    assert column[:].tolist() == [stored(entity.name) for entity in some(50)] == [*column[:20], *column[20:]]
    assert StringColumn(records, "id").dtype == "|S16"


def test_an_id_that_stands_twice_is_found_with_both_places():
    seen = readers.Seen()
    ids = ["a", "b", "c", "b", "a"]
    for id in ids:
        seen.add(id)
    assert seen.twice(zip(ids, range(5), strict=True)) == ("b", 1, 3)


def test_ids_of_one_hash_are_told_apart():
    class Same(str):
        __hash__ = lambda self: 7  # noqa: E731

    seen = readers.Seen()
    ids = [Same("a"), Same("b")]
    for id in ids:
        seen.add(id)
    assert seen.doubtful == {7}
    assert seen.twice(zip(ids, range(2), strict=True)) is None


def test_hashes_are_those_of_canonical_json():
    fields = ("a", 'é"\\', 5, -1, "\ud800\n")
    written = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()
    assert content_hash(*fields) == hashlib.sha256(written).digest()
    for texts in ([], ["00"], ["0a", "ff"]):
        assert digest_of_list(iter(texts)) == digest(texts)


# --- owners


def world(seed, *, described):
    """Rows of few texts and pictures, so that most repeat, in two generations."""
    rng = random.Random(seed)
    entities = [
        Entity(f"Q{row}", rng.choice("ab"), rng.choice(("", "x")), rng.choice(PICTURES), rng.choice(described))
        for row in range(rng.randrange(1, 9))
    ]
    mentions = [
        Mention(f"m{row}", "c", rng.choice(("a", "b", "a: x")), rng.choice("ab"), -1, -1, None, 1, rng.choice(PICTURES))
        for row in range(rng.randrange(9))
    ]
    generations = ((rng.randrange(len(entities) + 1), rng.randrange(len(mentions) + 1)), (len(entities), len(mentions)))
    known = {image.path: (hashlib.sha256(str(image.path).encode()).digest(), 0) for image in PICTURES if image}
    return Rows(entities, mentions, Layout({"entity": [], "mention": []}, generations), known)


PICTURES = (None, Image(Path("1")), Image(Path("2")))


def in_turn(rows):
    for before, after in pairwise([(0, 0), *rows.layout.generations]):
        for table, begin, end in zip(("entity", "mention"), before, after, strict=True):
            yield from ((table, row) for row in range(begin, end))


def texts_of(rows, table, row):
    if table == "mention":
        return mention_texts(rows.mentions[row])
    own, described = entity_text(rows.entities[row]), any(entity.description for entity in rows.entities)
    return {"text": own} | ({"description": rows.entities[row].description or own} if described else {})


@pytest.mark.parametrize("described", [("",), ("", "a", "d")])
@pytest.mark.parametrize("seed", range(12))
def test_the_first_in_turn_owns_each_text(seed, described):
    rows = world(seed, described=described)
    owners, first = Owners(rows), {"entity": {}, "mention": {}}
    for table, row in in_turn(rows):
        for column, text in texts_of(rows, table, row).items():
            for asking in ("entity", "mention") if table == "entity" else ("mention",):
                first[asking].setdefault(text, (f"{table}.joint.{column}", row))
    for table, row in in_turn(rows):
        for column, text in texts_of(rows, table, row).items():
            assert owners.of_text(table, row, column) == first[table][text]
            own = first[table][text] == (f"{table}.joint.{column}", row)
            assert owners.own_texts(table, column, row, row + 1).tolist() == [own]
    texts = [entity_text(entity) for entity in rows.entities]
    assert [owners.of_entity_text(row) for row in range(len(texts))] == [texts.index(text) for text in texts]


@pytest.mark.parametrize("seed", range(12))
def test_the_first_in_turn_owns_each_picture(seed):
    rows = world(seed, described=("",))
    owners, first, of_mentions = Owners(rows), {"entity": {}, "mention": {}}, {}
    for table, row in in_turn(rows):
        if (image := rows.records(table)[row].image) is not None:
            for asking in ("entity", "mention") if table == "entity" else ("mention",):
                first[asking].setdefault(image, (table, row))
            if table == "mention":
                of_mentions.setdefault(image, (table, row))
    alone = next(part for part in kinds.reading("picture", "mention") if kinds.mentions_alone(part))
    for table, row in in_turn(rows):
        image = rows.records(table)[row].image
        owner = None if image is None else first[table][image]
        assert owners.of_picture(PartName(f"{table}.image"), row) == owner
        assert owners.owns_picture(table, row) == (owner == (table, row))
        if table == "mention":
            assert owners.of_picture(alone, row) == (None if image is None else of_mentions[image])


def test_rows_of_entities_take_few_bytes_beside_their_texts():
    count = 4_000
    entities = Entities(Entity(f"Q{row}", f"name {row}", f"a text of entity {row}") for row in range(count))
    tracemalloc.start()
    rows = Rows(entities, [], Layout({"entity": [(0, count)], "mention": []}, ((count, 0),)), {})
    owners = Owners(rows)
    assert owners.of_text("entity", 5, "text") == ("entity.joint.text", 5)
    assert len(rows.ids["entity.ids"]["name"]) == len(rows.text_content["entity"]) == count
    assert np.isin(rows.picture_status["entity"], [0, 1]).all()
    lasting, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lasting < 100 * count and peak < 250 * count  # 1,500 before
