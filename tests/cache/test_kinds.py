"""The table of kinds of part agrees with itself, and synth makes columns of a kind that stands in it."""

from typing import get_args

import numpy as np
import pytest

import cache
from cache import kinds
from cache.kinds import CONTENT, KINDS, SIZES, Column, Part, Role, Source
from cache.names import ColumnName, PartName
from cache.schema import ALWAYS, PARTS, READS, TABLES
from cache.writing import synth


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_names_is_there_and_stands_before_it(name):
    part, before = KINDS[name], list(KINDS)[: list(KINDS).index(name)]
    assert name.table in TABLES and part.into in ("", *TABLES)
    assert part.role in ("", *get_args(Role)) and set(part.reads) <= set(get_args(Source)) == CONTENT.keys()
    assert set(part.inputs) <= set(before)
    assert set(part.from_picture) <= part.columns.keys()
    assert not part.from_picture or ("picture" in part.reads and part.role)
    assert not part.beside or KINDS[PartName(part.beside)].role == part.role
    assert part.like.keys() <= part.columns.keys()
    assert all(column.axes[-1:] in {*SIZES, "C", "*", "4", ""} for column in part.columns.values())
    for column, source in part.like.items():
        source = ColumnName(source)
        assert part.columns[column].axes[-1] == KINDS[source.part].columns[source.column].axes
    for column in part.columns.values():
        assert column.values is None or column.values[0] < column.values[1]


def test_parts_that_one_pass_makes_are_grouped_where_both_are_missing():
    names = [PartName(name) for name in ("mention.image", "mention.joint", "mention.objects", "mention.regions")]
    resnet, clip, objects, regions = names
    assert kinds.passes(names) == [[resnet, regions], [clip], [objects]]
    assert kinds.passes([clip, regions]) == [[clip], [regions]]


def test_what_a_part_derives_from_is_followed_to_the_end():
    assert kinds.demanded(["mention.attributes"]) == {"mention.attributes", "mention.crops"}


def test_parts_on_demand_bring_what_they_copy_from_and_what_says_where_they_lie():
    assert kinds.demanded(["mention.patches"]) == {"mention.patches", "entity.patches"}
    assert kinds.demanded(["entity.patches"]) == {"entity.patches"}
    assert kinds.demanded(["joint_token.states"]) == {"joint_token.states", "mention.joint_tokens"}
    assert kinds.demanded(["entity_joint_token.states"]) == {"entity_joint_token.states", "entity.joint_tokens"}


def test_a_planted_kind_is_synthesized_like_the_column_that_it_names(tmp_path, monkeypatch):
    part = Part({"image": Column("V", "feature", "test")}, reads=("picture",), like={"image": "entity.image.vector"})
    name = PartName("mention.thumbnail")
    monkeypatch.setitem(KINDS, name, part)
    monkeypatch.setitem(PARTS, name, part.columns)
    monkeypatch.setitem(READS, "planted", (*ALWAYS, "entity.image.vector", "mention.thumbnail.image"))
    synth.write(tmp_path / "toy", synth.Synthetic(20, 10, 4, 1.0, 0, "planted", image_width=16))
    reader = cache.open(tmp_path / "toy")
    golds = reader.column("entity.image.vector")[reader.column("mention.ids.gold")]
    np.testing.assert_array_equal(reader.column("mention.thumbnail.image"), golds)
