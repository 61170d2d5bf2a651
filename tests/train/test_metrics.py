"""Ranks and metrics against hand-written numbers and enumeration of tie orders."""

import itertools

import numpy as np
import pytest
import torch

from common.errors import NotFiniteError
from train.data import ambiguity
from train.evaluating import metrics

INF = torch.inf


def rank(scores, gold, present=None):
    scores = torch.tensor(scores)
    present = torch.ones_like(scores, dtype=torch.bool) if present is None else torch.tensor(present)
    return metrics.ranks(scores, torch.tensor(gold), present)


def test_ranks_count_better_and_tied_candidates():
    better, tied = rank([[3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 4.0, 3.0]], [1, 2, -1])
    assert better.tolist() == [1, 0, metrics.NEVER]
    assert tied.tolist() == [1, 3, 0]


def test_padding_is_never_above_gold():
    better, tied = rank([[1.0, 9.0, 1.0]], [0], [[True, False, True]])
    assert (better.item(), tied.item()) == (0, 1)


@pytest.mark.parametrize("bad", [float("nan"), INF, -INF])
def test_a_score_that_is_no_number_is_an_error_and_names_the_place(bad):
    with pytest.raises(NotFiniteError, match="candidate 2 of mention 1"):
        rank([[1.0, 2.0, 3.0], [1.0, 2.0, bad]], [0, 0])


def test_padding_may_be_minus_infinity():
    better, _ = rank([[1.0, -INF]], [0], [[True, False]])
    assert better.item() == 0


def test_expected_hits_are_the_mean_over_all_orders_of_ties():
    scores, gold = [2.0, 1.0, 1.0, 1.0, 0.0], 1
    better, tied = rank([scores], [gold])
    for k in range(1, 7):
        hits = []
        for order in itertools.permutations(range(5)):
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
                hits.append(order.index(gold) < k)
        assert metrics.top_k_hits(better, tied, k).item() == pytest.approx(np.mean(hits))
        assert metrics.top_k_hits(better, tied, k, "optimistic").item() == max(hits)
        assert metrics.top_k_hits(better, tied, k, "pessimistic").item() == min(hits)


def test_gold_that_was_not_retrieved_never_hits_even_when_k_exceeds_the_list():
    found = metrics.summarize(*rank([[1.0, 2.0], [1.0, 2.0]], [-1, 1]))
    assert found["top20"] == 0.5
    assert found["recall"] == 0.5
    assert found["top1_of_retrieved"] == 1.0
    assert found["mrr"] == 0.5
    assert found["mean_rank"] == 1.0


def test_ambiguous_mentions_are_measured_on_their_own():
    ranks = rank([[1.0, 2.0, 2.0], [5.0, 2.0, 2.0], [1.0, 1.0, 0.0], [1.0, 2.0, 3.0]], [1, 0, 0, -1])
    found = metrics.summarize(*ranks, ambiguous=torch.tensor([True, False, False, True]))
    assert {name: found[name] for name in ("ambiguous", "top1_of_ambiguous", "recall_of_ambiguous", "mentions")} == {
        "ambiguous": 2, "top1_of_ambiguous": 0.25, "recall_of_ambiguous": 0.5, "mentions": 4,
    }  # fmt: skip
    assert found["top1"] == (0.5 + 1 + 0.5) / 4
    of_none = metrics.summarize(*ranks, ambiguous=torch.zeros(4, dtype=torch.bool))
    assert (of_none["ambiguous"], of_none["top1_of_ambiguous"], of_none["recall_of_ambiguous"]) == (0, 0, 0)


def test_a_mention_is_ambiguous_where_two_entities_match_its_string_best():
    rng = np.random.default_rng(0)
    candidates = rng.integers(-4, 4, (200, 5)).clip(-1)
    lexical = (rng.integers(0, 3, (200, 5)) / 2).astype(np.float32)
    expected = []
    for listed, scores in zip(candidates.tolist(), lexical.tolist(), strict=True):
        there = [score for entity, score in zip(listed, scores, strict=True) if entity >= 0]
        expected.append(there.count(max(there)) if there else 0)
    assert ambiguity.matches(candidates, lexical).tolist() == expected
    assert {0, 1, 2} < set(expected)


def test_a_constant_model_scores_chance():
    better, tied = rank(np.zeros((7, 10)).tolist(), [0] * 7)
    found = metrics.summarize(better, tied)
    assert found["top1"] == pytest.approx(0.1)
    assert found["top5"] == pytest.approx(0.5)
    assert found["mean_rank"] == pytest.approx(5.5)
    assert found["mrr"] == pytest.approx(np.mean([1 / r for r in range(1, 11)]))
    assert metrics.summarize(better, tied, "optimistic")["mrr"] == 1.0
    assert metrics.summarize(better, tied, "pessimistic")["mrr"] == pytest.approx(0.1)
