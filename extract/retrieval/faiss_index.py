"""The entities nearest to a mention by cosine, nearly: an index of faiss, and how much of the exact lists it finds.

Entities lie in about sqrt(E) cells, each vector as codes of eight bits; a mention is compared with those of the
nearest cells. What is found is put in order by the stored vectors, exactly.
"""

import math
from collections.abc import Callable

import numpy as np

from common.errors import ConfigError
from extract.retrieval.nearest import Nearest, Places, Stored, best_first, unit

CELLS, PROBED = 1.0, 32  # times sqrt(E); of them searched
LEARNED = 64  # entities a cell that the cells are found by
ADDED = 1 << 14  # entities at a time
SAMPLE, NEAREST = 100, 10  # mentions, and entities of each, that recall is measured on


class Approximate:
    """Vectors of entities (E, D) in an index of faiss; `order` is their place where they tie.

    Raises ConfigError where faiss is not installed.
    """

    def __init__(self, entities: Stored, order: Places) -> None:
        try:
            import faiss
        except ImportError as error:
            raise ConfigError(
                f"--index faiss needs faiss ({error}). Install it: make setup EXTRAS=faiss, or pip install faiss-cpu"
            ) from error
        count, width = entities.shape
        self._entities, self._order = entities, order
        cells = max(1, min(int(CELLS * math.sqrt(count)), count // LEARNED))
        self._index = faiss.index_factory(width, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        learned = np.linspace(0, count - 1, min(count, LEARNED * cells)).astype(np.int64)
        self._index.train(unit(entities[learned]))
        for begin in range(0, count, ADDED):
            self._index.add(unit(entities[np.arange(begin, min(begin + ADDED, count))]))
        self._index.nprobe = min(PROBED, cells)
        self.name = f"IVF{cells},SQ8, {self._index.nprobe} cells searched"

    def best(self, mentions: np.ndarray, k: int, told: Callable[[int], None]) -> np.ndarray:
        """Return k entities near each mention (N, D), best first: rows (N, k) int32, -1 where fewer are found."""
        asked = unit(mentions)
        _, found = self._index.search(asked, min(k, self._entities.shape[0]))
        result = np.full(found.shape, -1, np.int32)
        for place, rows in enumerate(found):
            rows = rows[rows >= 0]
            scores = unit(self._entities[rows]).astype(np.float64) @ asked[place].astype(np.float64)
            result[place, : len(rows)] = best_first(rows, scores, self._order, len(rows))[0]
        told(len(mentions))
        return result


def recall(index: Approximate, entities: Stored, order: Places, mentions: np.ndarray) -> float:
    """Return which share of the nearest entities of mentions (N, D) an index finds."""
    k = min(NEAREST, entities.shape[0])
    exact = Nearest(entities, order).best(mentions, k, lambda count: None)
    near = index.best(mentions, k, lambda count: None)
    return sum(len(np.intersect1d(*pair)) for pair in zip(exact, near, strict=True)) / exact.size
