"""Ranks by float32 with a bound are those of exact integers, on ties that are nearer than the bound."""

import numpy as np
import pytest
import torch

from cache.edges import GRID
from common.errors import ConfigError
from train.evaluating import exact_scores, whole_kb
from train.evaluating.exact_scores import Others
from train.processes import World

MENTIONS, WIDTH, PLANTED, REST = 50, 64, 200, 1_000  # 10,000 planted entities
EVERY = MENTIONS * (PLANTED + 1) + REST


class Held:
    """Of a table what ranking among all entities asks for."""

    entity_count, mention_count, device = EVERY, MENTIONS, torch.device("cpu")

    def column(self, name):
        """Golds are the first of the entities that stand near them."""
        assert name == "mention.ids.gold"
        return torch.arange(MENTIONS) * (PLANTED + 1)


@pytest.fixture(scope="module")
def near():
    """Vectors on the grid as whole steps: of a mention's entities all but gold differ from it by a few steps."""
    rng = np.random.default_rng(0)
    units = rng.normal(size=(MENTIONS + MENTIONS + REST, WIDTH))
    steps = np.rint(units / np.linalg.norm(units, axis=1, keepdims=True) * 2**24).astype(np.int64) * int(GRID / 2**24)
    mentions, golds, rest = np.split(steps, (MENTIONS, 2 * MENTIONS))
    moved = rng.integers(-2, 3, (MENTIONS, PLANTED, WIDTH)) * (rng.random((MENTIONS, PLANTED, WIDTH)) < 0.05) * 2
    moved[:, ::10] = 0  # equal vectors tie
    beside = np.concatenate([golds[:, None], golds[:, None] + moved], 1).reshape(-1, WIDTH)
    return mentions, np.concatenate([beside, rest])


def towers(near, added=None):
    """Vectors of float32, which hold every step."""
    mentions, entities = (torch.from_numpy(steps / GRID).float() for steps in near)
    assert all(np.array_equal(v.double().numpy() * GRID, s) for v, s in zip((mentions, entities), near, strict=True))
    return whole_kb.Towers(lambda rows: mentions[rows], lambda rows: entities[rows], added)


def counted(near):
    """Return ranks of integers."""
    mentions, entities = near
    scores = mentions @ entities.T
    own = scores[np.arange(MENTIONS), np.arange(MENTIONS) * (PLANTED + 1)][:, None]
    return torch.from_numpy((scores > own).sum(1)), torch.from_numpy((scores == own).sum(1) - 1)


@pytest.mark.parametrize("many", [0, 16, 10**9], ids=["no block whole", "as it is", "every block whole"])
@pytest.mark.parametrize("chunk", [500, 20_000])
def test_ranks_among_near_ties_are_those_of_integers(near, monkeypatch, many, chunk):
    monkeypatch.setattr(exact_scores, "MANY", many)
    monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": chunk})
    found = whole_kb.ranks(towers(near), Held(), torch.arange(MENTIONS), World())
    expected = counted(near)
    assert all(map(torch.equal, found, expected))
    assert expected[1].min() >= 20 and expected[0].max() > 50


@pytest.mark.parametrize("size", [2, 3, 40])
def test_processes_that_share_the_entities_count_the_same_ranks(near, monkeypatch, size):
    """Each compares its chunks with all mentions, no chunk twice; their sums are the ranks of one process."""
    monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": 500})
    read, parts = [], []
    every = towers(near)

    def entities(rows):
        read.append(set(rows.tolist()))
        return every.entities(rows)

    class One(World):
        def add(self, tensors):
            parts.append([tensor.clone() for tensor in tensors])

    for rank in range(size):
        whole_kb.ranks(whole_kb.Towers(every.mentions, entities), Held(), torch.arange(MENTIONS), One(rank, size))
    assert all(
        torch.equal(sum(found), expected)
        for found, expected in zip(zip(*parts, strict=True), counted(near), strict=True)
    )
    golds = set((torch.arange(MENTIONS) * (PLANTED + 1)).tolist())
    assert sum(len(some - golds) for some in read) == EVERY - MENTIONS


def test_float32_alone_would_be_wrong(near, monkeypatch):
    """Else the test above could not fail."""
    monkeypatch.setattr(exact_scores, "error", lambda mentions, entities, added: torch.zeros(len(mentions), 1).double())
    monkeypatch.setattr(Others, "check", lambda *given: None)
    better, tied = whole_kb.ranks(towers(near), Held(), torch.arange(MENTIONS), World())
    expected = counted(near)
    assert (better != expected[0]).float().mean() > 0.5 and (tied != expected[1]).float().mean() > 0.5


def test_what_is_added_is_exact_too(near):
    """Sums that float32 would round: a step of the grid beside a number of the same size as the score."""
    plus = torch.from_numpy(np.random.default_rng(1).choice([0.75, -0.5, 0.3125], EVERY)).float()
    plus[: MENTIONS * (PLANTED + 1)] = 0.75

    def added(mentions, entities):
        return plus[entities].expand(len(mentions), entities.shape[-1])

    found = whole_kb.ranks(towers(near, added), Held(), torch.arange(MENTIONS), World())
    mentions, entities = near
    scores = mentions @ entities.T + (plus.double() * GRID**2).long().numpy()
    own = scores[np.arange(MENTIONS), np.arange(MENTIONS) * (PLANTED + 1)][:, None]
    assert torch.equal(found[0], torch.from_numpy((scores > own).sum(1)))
    assert torch.equal(found[1], torch.from_numpy((scores == own).sum(1) - 1))


@pytest.mark.parametrize("many", [0, 16])
@pytest.mark.parametrize(("chunk", "k"), [(500, 7), (20_000, 150), (64, 100)])
def test_the_nearest_are_those_of_integers(near, monkeypatch, many, chunk, k):
    monkeypatch.setattr(exact_scores, "MANY", many)
    monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": chunk})
    found = whole_kb.nearest(towers(near), Held(), torch.arange(MENTIONS), k, World())
    keys = np.rint(near[0] @ near[1].T / GRID**2 * exact_scores.KEY).astype(np.int64)
    expected = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    assert np.array_equal(found.numpy(), expected)


def test_the_error_is_within_its_bound_and_the_bound_not_far(near):
    """Against integers, for sums of 64 and of 4,096 products."""
    rng = np.random.default_rng(2)
    wide = rng.normal(size=(300, 4096))
    wide = np.rint(wide / np.linalg.norm(wide, axis=1, keepdims=True) * 2**24).astype(np.int64) * 2
    for mentions, entities in (near, (wide[:100], wide[100:])):
        m, e = (torch.from_numpy(steps / GRID).float() for steps in (mentions, entities))
        exact = torch.from_numpy((mentions @ entities.T) / GRID**2)
        margin = exact_scores.error(m, e, None)
        off = (m @ e.T - exact).abs()
        assert (off <= margin).all()
        assert margin.max() < 2 * mentions.shape[1] * 2.0**-24


def test_products_that_are_coarser_than_float32_are_refused(near, monkeypatch):
    """As TF32 or bfloat16 behind our back would make them."""
    coarse = torch.Tensor.__matmul__

    def product(left, right):
        return coarse(left.bfloat16().float(), right) if left.dtype == torch.float32 else coarse(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    with pytest.raises(ConfigError, match="less exact here than float32 is"):
        whole_kb.ranks(towers(near), Held(), torch.arange(MENTIONS), World())


def test_a_lower_precision_that_was_asked_for_does_not_reach_the_products_and_comes_back(near):
    torch.set_float32_matmul_precision("medium")
    seen = []
    watched = towers(near)

    def mentions(rows):
        seen.append(torch.get_float32_matmul_precision())
        return watched.mentions(rows)

    try:
        whole_kb.ranks(whole_kb.Towers(mentions, watched.entities), Held(), torch.arange(MENTIONS), World())
        assert set(seen) == {"highest"} and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
