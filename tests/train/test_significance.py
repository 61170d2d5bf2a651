"""Paired tests against enumerations: intervals, p values, and what a mention counts."""

import itertools

import numpy as np
import pytest
import torch

from train.evaluating import metrics
from train.judging.significance import approximate_randomization, holm, paired_bootstrap


def pairs(rng, n, gain=0.0):
    """Two heads' hits of n mentions, half of which both share; the second is better by `gain`."""
    first, second = rng.random(n) < 0.6, rng.random(n) < 0.6 + gain / 0.5
    second[: n // 2] = first[: n // 2]
    return (second.astype(float) - first)[:, None]


def test_randomization_equals_the_enumeration_of_all_exchanges():
    rng = np.random.default_rng(3)
    # means over ten seeds are tenths, whose sums are equal in integers but not in binary: that moves p by 0.04
    tenths = rng.integers(-7, 10, (20, 10))
    columns = [rng.normal(0.3, 1, 10), *tenths]
    exact = []
    for column in columns:
        signs = np.array(list(itertools.product((1, -1), repeat=10)))
        exact.append(np.mean(np.abs(signs @ column) >= np.abs(column.sum()) - 1e-12))
    differences = np.stack([columns[0], *(tenths / 10)], 1)
    found = approximate_randomization(differences, resamples=100_000)
    deviation = np.sqrt(np.array(exact) * (1 - np.array(exact)) / 100_000)
    assert (np.abs(found - exact) < 4 * deviation).all()
    assert min(exact) < 0.3


def test_bootstrap_equals_the_enumeration_of_all_resamples():
    values = np.array([-0.31, 0.12, 0.57, 0.9, 1.3])
    means = np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=5)])
    low, high, p = paired_bootstrap(values[:, None], resamples=40_000)
    for end, share in ((low, 0.025), (high, 0.975)):  # the quantile itself jumps from one mean to the next
        assert np.mean(means < end) - 0.004 <= share <= np.mean(means <= end) + 0.004
    assert p[0] == pytest.approx(2 * np.mean(means <= 0), abs=0.006)
    wide, narrow = paired_bootstrap(values[:, None], level=0.99), paired_bootstrap(values[:, None], level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_equal_heads_differ_in_one_of_twenty_tests_and_a_better_one_is_seen():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        differences = pairs(rng, 200)
        low, high, _ = paired_bootstrap(differences, resamples=400)
        found.append((approximate_randomization(differences, resamples=400)[0] < 0.05, not low[0] <= 0 <= high[0]))
    for share in np.mean(found, axis=0):  # three and a half deviations around 0.05
        assert 0.012 < share < 0.088
    better = [approximate_randomization(pairs(rng, 1000, 0.08), resamples=400)[0] < 0.05 for _ in range(100)]
    assert np.mean(better) > 0.9


def test_p_is_never_zero_and_one_where_nothing_differs():
    assert approximate_randomization(np.ones((40, 1)), resamples=99)[0] == 1 / 100
    assert paired_bootstrap(np.ones((40, 1)), resamples=99)[2][0] == 2 / 100
    assert approximate_randomization(np.zeros((40, 1)))[0] == 1
    assert [float(end[0]) for end in paired_bootstrap(np.zeros((40, 1)))] == [0, 0, 1]
    # 0.1 + 0.2 - 0.3 is not 0 in binary, but its exchanges are no less extreme
    assert approximate_randomization(np.array([[0.1], [0.2], [-0.3]]))[0] == 1


def test_a_p_does_not_depend_on_what_else_is_tested():
    values = np.random.default_rng(0).normal(0.1, 1, (300, 3))
    for test in (paired_bootstrap, lambda columns: (approximate_randomization(columns),)):
        for together, alone in zip(test(values), test(values[:, [1]]), strict=True):
            assert together[1] == pytest.approx(alone[0], abs=1e-12)


def test_holm_equals_numbers_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_values_of_mentions_equal_loops():
    better = torch.tensor([0, 0, 2, 4, metrics.NEVER])
    tied = torch.tensor([0, 1, 2, 0, 0])
    top3 = [np.mean([rank <= 3 for rank in range(b + 1, b + t + 2)]) for b, t in ((0, 0), (0, 1), (2, 2), (4, 0))]
    mrr = [np.mean([1 / rank for rank in range(b + 1, b + t + 2)]) for b, t in ((0, 0), (0, 1), (2, 2), (4, 0))]
    assert metrics.per_mention(better, tied, "top3").tolist() == pytest.approx([*top3, 0])
    assert metrics.per_mention(better, tied, "mrr").tolist() == pytest.approx([*mrr, 0])
