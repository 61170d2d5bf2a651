import json
import pickle

import pytest

from cache.names import ColumnName, PartName
from cache.schema import PARTS, TABLES


@pytest.mark.parametrize("part", PARTS)
def test_every_name_of_the_schema_is_put_together_again(part):
    name = PartName(part)
    assert name.table in TABLES and f"{name.table}.{name.kind}" == part
    for column in PARTS[part]:
        full = name.column(column)
        assert (full, full.part, full.table, full.column) == (f"{part}.{column}", part, name.table, column)
        assert type(full.part) is PartName and full.apart() == (part, column)


def test_a_name_is_its_string():
    name = ColumnName("entity.text.sentence")
    assert (
        name == "entity.text.sentence"
        and {name: 1}["entity.text.sentence"] == 1
        and f"{name}" == "entity.text.sentence"
    )
    assert json.dumps({name: name}, sort_keys=True) == '{"entity.text.sentence": "entity.text.sentence"}'
    assert type(pickle.loads(pickle.dumps(name))) is ColumnName


def test_a_name_without_a_dot_is_a_column_of_no_part():
    assert (ColumnName("gold").part, ColumnName("gold").column) == ("", "gold")
