"""Outcomes and kinds of errors by hand-made cases; verdicts, ticks and thinned curves by what they must be."""

from pathlib import Path

import numpy as np
import pytest

from report.findings import classes, verdicts
from report.writing import charts

NAN = np.nan


def test_each_mention_has_the_outcome_of_its_definition():
    gold, gold_row, right = np.array([0, 0, 2, -1, -1]), np.array([7, 7, 7, 7, -1]), np.array([1, 0.5, 0, 0, 0])
    found = classes.outcomes(gold, gold_row, right).tolist()
    assert found == ["right", "tied", "other", "not-listed", "nil"] == list(classes.OUTCOMES)
    every = classes.outcomes(gold, gold_row, right, every=True).tolist()
    assert every == ["right", "tied", "other", "other", "nil"]


def test_the_rival_is_the_chosen_entity_or_the_best_of_the_others():
    entities = np.array([[4, 5, 6], [4, 5, 6], [4, -1, -1], [-1, -1, -1]])
    assert classes.rivals(entities, np.array([0, 2, 0, -1])).tolist() == [1, 0, -1, -1]
    assert classes.rivals(np.array([[4]]), np.array([0])).tolist() == [-1]


@pytest.mark.parametrize(
    ("one", "other", "same", "partial"),
    [
        ("Paris", "PARIS ", True, False),
        ("New  York", "new york", True, False),
        ("York", "New York", False, True),
        ("New York City", "york new", False, True),
        ("york new", "New York", False, True),  # the same words in another order
        ("Paris, Texas", "paris texas", True, False),
        ("Fred (footballer, born 1979)", "Fred (singer)", True, False),
        ("Fred (singer)", "FRED", True, False),
        ("Fred (singer)", "Fred Astaire", False, True),
        ("(singer)", "(footballer)", False, False),
        ("a)", "b)", False, False),
        ("!!!", "???", False, False),
        ("Yorkshire", "York", False, False),
        ("Paris", "Oslo", False, False),
        ("", "Oslo", False, False),
    ],
)
def test_names_are_the_same_or_one_holds_the_words_of_the_other(one, other, same, partial):
    assert (classes.same_name(one, other), classes.partial_name(one, other)) == (same, partial)
    assert (classes.same_name(other, one), classes.partial_name(other, one)) == (same, partial)


def test_only_errors_are_marked_by_names():
    names = ["Rome", "rome", "Rome Texas", "Oslo"]
    chosen, gold = np.array([1, 2, 3, 1, -1]), np.array([0, 0, 0, 0, 0])
    marks = classes.of_names(names, chosen, gold, np.array([True, True, True, False, True]))
    assert marks["same-name"].tolist() == [True, False, False, False, False]
    assert marks["partial-name"].tolist() == [False, True, False, False, False]


def test_golds_of_train_are_counted_and_few_are_rare():
    gold = np.array([3, 3, 3, 3, 3, 5, 9, 3, 5, 8, -1, -2])
    splits = np.array([1, 1, 1, 1, 1, 3, 4, 4, 4, 4, 1, 1], np.uint8)
    frequency = classes.frequencies(gold, splits)
    assert frequency.tolist() == [5, 5, 5, 5, 5, 1, 0, 5, 1, 0, 0, 0]
    marks = classes.of_gold(frequency, gold)
    assert np.flatnonzero(marks["unseen"]).tolist() == [6, 9] and np.flatnonzero(marks["rare"]).tolist() == [5, 8]


def test_text_or_picture_decides_where_it_alone_favors_gold():
    text = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]])
    picture = np.array([[0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [NAN, 0.1], [0.9, NAN], [0.9, 0.1]])
    gold, rival = np.zeros(6, int), np.ones(6, int)
    marks = classes.of_edges({"text": text, "picture": picture}, gold, rival)
    assert np.flatnonzero(marks["text"]).tolist() == [0, 4]  # the missing picture of the rival favors nobody
    assert np.flatnonzero(marks["picture"]).tolist() == [1, 5]
    none = classes.of_edges({"text": text, "picture": picture}, gold - 1, rival)
    assert not none["text"].any() and not none["picture"].any()


def test_the_guide_has_the_definitions_of_the_pages():
    guide = (Path(__file__).parents[2] / "docs/guides/report.md").read_text()
    rows = [*classes.OUTCOMES.values(), *((kind.title, kind.meaning) for kind in classes.KINDS.values())]
    assert len(rows) == 11
    for title, meaning in rows:
        assert f"| {title} | {meaning} |\n" in guide


def counts(**changes):
    known = {
        "mentions": 100,
        "in_another_split": 0,
        "repeated": 0,
        "picture_of_gold": 0,
        "gold_in_train": 0,
        "prior": 0,
    }
    return known | changes


def test_verdicts_say_what_was_counted_in_words():
    texts = {verdict.text: verdict.level for verdict in verdicts.of_split(counts(mentions=6))}
    assert texts["6 test mentions: ±40 points (95%, at a Top-1 of 50%)"] == "warning"
    assert texts["no test gold occurs in train"] == "good"
    found = verdicts.of_split(counts(labeled=80, gold_in_train=40, repeated=7, in_another_split=1, prior=60))
    texts = {verdict.text: verdict.level for verdict in found}
    assert texts["20 of 100 test mentions are not labeled, and count nowhere"] == "note"
    assert texts["7 of 100 (7.0%) test mentions repeat sentence, mention and position of one in train"] == "warning"
    assert texts["1 of 100 (1.0%) test mentions stand in another split, too"] == "note"
    assert any(text.startswith("40 of 80 (50.0%) test mentions have a gold that occurs") for text in texts)
    assert any("right for 75.0% of test" in text and level == "warning" for text, level in texts.items())
    assert [verdict.level for verdict in verdicts.of_split(counts(labeled=0))] == ["warning"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.8, 0.8), (1, 2), (84.3, 92.1), (-3, 1e6), (0, 0), (1e-9, 2e-9)])
def test_ticks_are_few_round_and_span_the_values(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 7 and found == sorted(set(found))
    assert found[0] <= low + 1e-8 and found[-1] >= high - 1e-8


def test_a_thinned_curve_keeps_its_ends():
    points = [(float(n), float(n * n)) for n in range(1_000)]
    found = charts.thinned(points, 20)
    assert len(found) == 20 and found[0] == points[0] and found[-1] == points[-1]
    assert charts.thinned(points[:5], 20) == points[:5]
