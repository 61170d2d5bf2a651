"""Retrieved candidate lists against one scorer call per pair and a plain sort; the index's bounds against loops."""

import random
from collections import Counter

import numpy as np
import pytest
from rapidfuzz import fuzz, utils

from extract.retrieval import by_name, name_index
from extract.retrieval.character_bits import CharacterBits
from extract.retrieval.name_index import form
from extract.retrieval.shared_tokens import SharedTokens
from extract.retrieval.subsequences import Subsequences

WORDS = ["Paris", "paris", "Île", "de", "France", "", " ", "!!!", "東京", "Straße", "STRASSE", "O'Neil", "a", "b", "🚀"]


def score(surface, name):
    return np.float32(fuzz.token_set_ratio(utils.default_process(surface), utils.default_process(name)) / 100)


def one_by_one(surface, names, k):
    """Every name scored alone; best first, ties by name, then by row."""
    ranked = sorted(range(len(names)), key=lambda row: (-score(surface, names[row]), names[row], row))[:k]
    return ranked + [-1] * (k - len(ranked)), [score(surface, names[row]) for row in ranked]


def strings(rng, count):
    return [" ".join(rng.choices(WORDS, k=rng.randrange(4))) for _ in range(count)]


@pytest.fixture(params=["all", "index"], autouse=True)
def way(request, monkeypatch):
    """All names compared with all strings, and the index that leaves most out."""
    monkeypatch.setattr(by_name, "FEW", 0 if request.param == "index" else 10**9)


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


ALPHABETS = ("a", "ab", "aé ß", "東京都大 ", "abcdefghijklmnopqrstuvwxyz    ", " İıſKÅ a", "\ud800a b", "٣۴ a")
TOKENS = "of the john smith university paris new york saint de la a b i".split()


def odd_strings(rng, count):
    """Words that many share, noise of several scripts, both, nothing, very long ones, and some that are equal."""

    def one():
        if rng.random() < 0.3:
            return " ".join(rng.choices(TOKENS, k=rng.randrange(6)))
        noise = "".join(rng.choices(rng.choice(ALPHABETS), k=rng.choice([0, 1, 2, 5, 9, 14, 20, 200])))
        return noise + rng.choice(["", " " + rng.choice(TOKENS)])

    made = [one() for _ in range(count)]
    return [rng.choice(made) if rng.random() < 0.2 else text for text in made]


@pytest.mark.parametrize("seed", range(30))
def test_the_index_leaves_out_nothing_that_belongs_in_a_list(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr(name_index, "FIRST", rng.choice([1, 4, 256]))
    monkeypatch.setattr(name_index, "CHUNK", rng.choice([1, 7, 1 << 16]))
    names, k = odd_strings(rng, rng.choice([1, 7, 150])), rng.choice([1, 3, 20, 150])
    surfaces = odd_strings(rng, 6) + rng.choices(names, k=3)
    found, scores = by_name.retrieve(surfaces, names, k, workers=1)
    for row, surface in enumerate(surfaces):
        expected, expected_scores = one_by_one(surface, names, k)
        assert found[row].tolist() == expected
        assert scores[row, : len(expected_scores)].tolist() == expected_scores


def test_few_of_many_names_are_scored(monkeypatch):
    monkeypatch.setattr(by_name, "FEW", 0)
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(5000)] + ["Barack Obama"] * 20
    scored, cdist = [], name_index.process.cdist
    monkeypatch.setattr(
        name_index.process,
        "cdist",
        lambda queries, choices, **options: [scored.append(len(choices))] and cdist(queries, choices, **options),
    )
    assert by_name.retrieve(["Barak Obama"], names, 10)[0].tolist() == [list(range(5000, 5010))]
    assert 20 <= sum(scored) < 600


def test_long_strings_are_compared_to_their_end(monkeypatch):
    monkeypatch.setattr(name_index, "FIRST", 1)
    rng = random.Random(5)
    surface = "".join(rng.choices("abcdefgh", k=150))
    names = ["".join(rng.sample(surface[:50], 50)) + surface[50:] for _ in range(8)] + [surface[:149] + "x"]
    found, scores = by_name.retrieve([surface], names, 1, workers=1)
    expected, expected_scores = one_by_one(surface, names, 1)
    assert found[0].tolist() == expected
    assert scores[0].tolist() == expected_scores


def common_characters(one, two):
    return sum((Counter(one) & Counter(two)).values())


def common_subsequence(one, two):
    above = [0] * (len(two) + 1)
    for first in one:
        row = [0]
        for j, second in enumerate(two):
            row.append(above[j] + 1 if first == second else max(above[j + 1], row[j]))
        above = row
    return above[-1]


def test_bounds_by_characters_and_subsequences_are_never_too_low():
    rng = random.Random(1)
    texts = sorted({form(text) for text in odd_strings(rng, 300)}, key=len)
    lengths = np.array([len(text) for text in texts], np.int32)
    bits, subsequences = CharacterBits(texts, lengths), Subsequences(texts, lengths, 9)
    exact = 0
    for query in texts[1::5]:
        common = bits.of(query).common(np.arange(len(texts)))
        least = 3
        places, counts = bits.of(query).reaching(2, len(texts), least)
        assert places.tolist() == [place for place in range(2, len(texts)) if common[place] >= least]
        assert counts.tolist() == common[places].tolist()
        for place, text in enumerate(texts):
            assert common[place] >= common_characters(query, text)
            exact += common[place] == common_characters(query, text)
            if len(query) <= 64 and lengths[place] <= 20:
                longest = subsequences.longest(subsequences.of(query), np.array([place]), len(text))
                assert longest.tolist() == [common_subsequence(query, text)]
    assert exact > 0.5 * len(texts) * len(texts[1::5])


def test_strings_that_share_tokens_are_found_with_what_they_share():
    rng = random.Random(2)
    texts = [form(" ".join(rng.choices(TOKENS, k=rng.randrange(5)))) for _ in range(60)]
    index = SharedTokens(texts)
    for query in (*texts[:9], "nowhere", ""):
        shared = {row: set(query.split()) & set(text.split()) for row, text in enumerate(texts)}
        expected = [(row, len(tokens), len(" ".join(tokens))) for row, tokens in shared.items() if tokens]
        assert list(zip(*(found.tolist() for found in index.sharing(query)), strict=True)) == expected


def test_blanks_alone_part_tokens_after_processing():
    every = utils.default_process("".join(map(chr, range(0x110000))))
    assert {character for character in every if character.isspace()} == {" "}


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
