"""Retrieved candidate lists against one scorer call per pair and a plain sort."""

import random

import numpy as np
import pytest
from rapidfuzz import fuzz, utils

from extract.retrieval import by_name

WORDS = ["Paris", "paris", "Île", "de", "France", "", " ", "!!!", "東京", "Straße", "STRASSE", "O'Neil", "a", "b", "🚀"]


def score(surface, name):
    return np.float32(fuzz.token_set_ratio(utils.default_process(surface), utils.default_process(name)) / 100)


def one_by_one(surface, names, k):
    """Every name scored alone; best first, ties by name, then by row."""
    ranked = sorted(range(len(names)), key=lambda row: (-score(surface, names[row]), names[row], row))[:k]
    return ranked + [-1] * (k - len(ranked)), [score(surface, names[row]) for row in ranked]


def strings(rng, count):
    return [" ".join(rng.choices(WORDS, k=rng.randrange(4))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_retrieval_is_brute_force_with_ties_by_name_then_row(seed):
    rng = random.Random(seed)
    surfaces, names, k = strings(rng, 15), strings(rng, 40), rng.choice([1, 3, 10, 39])
    found, scores = by_name.retrieve(surfaces, names, k, workers=1)
    assert found.dtype == np.int32 and scores.dtype == np.float32
    for row, surface in enumerate(surfaces):
        expected, expected_scores = one_by_one(surface, names, k)
        assert found[row].tolist() == expected
        assert scores[row].tolist() == expected_scores


def test_fewer_names_than_places_are_padded():
    found, scores = by_name.retrieve(["Paris"], ["Rome", "Paris"], 5, workers=1)
    assert found.tolist() == [[1, 0, -1, -1, -1]]
    assert (scores[0, 2:] == 0).all()


def test_equal_names_come_in_row_order():
    found, _ = by_name.retrieve(["Paris"], ["Paris", "Lyon", "Paris", "Paris"], 3, workers=1)
    assert found.tolist() == [[0, 2, 3]]


def test_an_empty_string_scores_zero_and_lists_by_name():
    found, scores = by_name.retrieve(["", "!?"], ["b", "c", "a"], 2, workers=1)
    assert found.tolist() == [[2, 0], [2, 0]]
    assert (scores == 0).all()


def test_no_names_and_no_surfaces():
    assert by_name.retrieve(["a"], [], 2)[0].tolist() == [[-1, -1]]
    assert by_name.retrieve([], ["a"], 2)[0].shape == (0, 2)


def test_chunks_and_threads_do_not_change_the_lists(monkeypatch):
    rng = random.Random(3)
    surfaces, names = strings(rng, 30), strings(rng, 50)
    whole = by_name.retrieve(surfaces, names, 7, workers=1)
    monkeypatch.setattr(by_name, "CHUNK_BYTES", 1)
    seen = []
    for expected, actual in zip(whole, by_name.retrieve(surfaces, names, 7, seen.append, workers=2), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert sum(seen) == len(set(surfaces))


def test_scores_of_given_lists_are_those_of_retrieval():
    rng = random.Random(4)
    surfaces, names = strings(rng, 12), strings(rng, 20)
    given = np.array([[rng.randrange(-1, 20) for _ in range(6)] for _ in surfaces], np.int32)
    scores = by_name.lexical(surfaces, names, given)
    for row, surface in enumerate(surfaces):
        for column, index in enumerate(given[row]):
            assert scores[row, column] == (score(surface, names[index]) if index >= 0 else 0)


def test_recall_counts_gold_that_is_nowhere_as_a_miss():
    assert by_name.recall_at_k(np.array([0, 2, -1, 9]), [1, 3, 10]) == [0.25, 0.5, 0.75]
    assert by_name.recall_at_k(np.array([], int), [1]) == [0.0]
