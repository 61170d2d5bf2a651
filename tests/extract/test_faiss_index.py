"""An index of faiss behind the search for candidates: what it finds is in exact order, what it misses is counted."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from common.errors import ConfigError
from extract.retrieval import faiss_index
from extract.retrieval.faiss_index import Approximate, recall
from extract.retrieval.nearest import Nearest

RNG = np.random.default_rng(0)
ENTITIES, MENTIONS = RNG.normal(size=(300, 16)).astype(np.float16), RNG.normal(size=(20, 16)).astype(np.float16)
ORDER = RNG.permutation(300)


class Forgetful:
    """Stands for an index of faiss: finds entities of even rows alone, in no order."""

    def __init__(self, width):
        self.rows, self.learned = np.empty((0, width), np.float32), 0

    def train(self, rows):
        self.learned = len(rows)

    def add(self, rows):
        self.rows = np.concatenate([self.rows, rows])

    def search(self, asked, k):
        scores = asked @ self.rows[::2].T
        found = 2 * np.argsort(-scores, axis=1)[:, :k]
        found = np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
        return np.take_along_axis(scores, found // 2, 1), found[:, ::-1].astype(np.int64)


@pytest.fixture
def forgetful(monkeypatch):
    made = SimpleNamespace(METRIC_INNER_PRODUCT=0, index_factory=lambda width, kind, metric: Forgetful(width))
    monkeypatch.setitem(sys.modules, "faiss", made)


def test_what_is_found_is_in_exact_order_and_padded(forgetful):
    index = Approximate(ENTITIES, ORDER)
    found = index.best(MENTIONS, 200, lambda count: None)
    even = Nearest(ENTITIES[::2], ORDER[::2]).best(MENTIONS, 150, lambda count: None)
    assert found.shape == (20, 200) and (found[:, 150:] == -1).all()
    assert np.array_equal(found[:, :150], 2 * even)


def test_recall_is_the_share_of_the_exact_lists(forgetful):
    exact = Nearest(ENTITIES, ORDER).best(MENTIONS, 10, lambda count: None)
    found = recall(Approximate(ENTITIES, ORDER), ENTITIES, ORDER, MENTIONS)
    assert found == pytest.approx((exact % 2 == 0).mean()) and 0.3 < found < 0.7


def test_without_faiss_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"--index faiss needs faiss .*EXTRAS=faiss"):
        Approximate(ENTITIES, ORDER)


def test_an_index_that_searches_all_cells_finds_all(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(faiss_index, "PROBED", 1_000)
    assert recall(Approximate(ENTITIES, ORDER), ENTITIES, ORDER, MENTIONS) > 0.95
