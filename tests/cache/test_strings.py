"""Columns of strings: decoded where they are asked for, found by value, without Python's objects for each row."""

import itertools
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cache.reader import row_index
from cache.reader.row_index import RowIndex
from cache.reader.strings import BLOCK, Strings
from common.errors import CacheError

PLACE = Path("shards/x")


def column(texts, cuts=(), types=("S56", "S48", "S41")):
    """Texts in shards of several widths."""
    borders = [0, *cuts, len(texts)]
    pieces = []
    for i, (begin, end) in enumerate(itertools.pairwise(borders)):
        pieces.append((begin, np.array([text.encode() for text in texts[begin:end]], types[i % len(types)])))
    return Strings("entity.ids.name", PLACE, pieces)


def test_strings_are_those_of_a_list():
    texts = ["", "Zürich", "𐍈", *(f"name {n}" for n in range(3 * BLOCK)), "last"]
    found = column(texts, (1, 2 * BLOCK))
    assert found == texts and texts == found and list(found) == texts and len(found) == len(texts)
    assert found != texts[:-1] and found != [*texts[:-1], "other"]
    for place in (0, 1, BLOCK, -1):
        assert found[place] == texts[place]
    assert found[2 * BLOCK - 3 : 2 * BLOCK + 3] == texts[2 * BLOCK - 3 : 2 * BLOCK + 3] and found[::-1] == texts[::-1]
    assert "last" in found and found.index("Zürich") == 1
    with pytest.raises(IndexError):
        found[len(texts)]


def test_what_is_not_utf8_is_named_when_it_is_taken():
    found = Strings("entity.ids.name", PLACE, [(0, np.array([b"a", b"\xe9"], "S8")), (2, np.array([b"c"], "S8"))])
    assert found[0] == "a" and found[2] == "c"
    for taken in (lambda: found[1], lambda: list(found), lambda: found[:2]):
        with pytest.raises(CacheError, match=r"^entity\.ids\.name of row 1 in shards/x is not UTF-8: unexpected"):
            taken()


def test_a_row_is_found_by_its_string_as_a_dictionary_finds_it(monkeypatch):
    rng = random.Random(0)
    texts = ["".join(rng.choices("ab\0é", k=rng.randint(0, 20))).rstrip("\0") for _ in range(300)]
    wanted = {text: row for row, text in enumerate(texts)}
    asked = [*texts, "a\0", "\ud800", "ab" * 300, "nobody"]
    few = [len(set(texts)), 8]  # distinct hashes: as they are, and where nearly all collide
    real = row_index._hashes
    for count in few:
        monkeypatch.setattr(row_index, "_hashes", lambda strings, count=count: real(strings) % np.uint64(count))
        for index in (RowIndex(column(texts, (100, 250))), RowIndex(texts)):
            assert [index.find(text) for text in asked] == [wanted.get(text) for text in asked]
    assert RowIndex([]).find("") is None and RowIndex(["x"]).find("") is None


def test_rows_take_a_dozen_bytes_each_to_be_found():
    def taken(count):
        strings = column([f"Q{row}" for row in range(count)], (count // 2,))
        tracemalloc.start()
        index = RowIndex(strings)
        lasting = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert index.find("Q7") == 7
        return lasting

    assert (taken(20_000) - taken(2_000)) / 18_000 <= 13
