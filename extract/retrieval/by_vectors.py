"""Candidates by more than the name: sources that rank entities, and their union by reciprocal rank.

A source is `names` (token_set_ratio), or a role whose vectors of mention and entity are compared by cosine: `text` (the
mention's tokens in their sentence against `name: text`), or `joint`. Several are joined by reciprocal rank fusion
(Cormack, Clarke and Buettcher 2009): an entity's score is the sum of 1 / (60 + its rank) over the sources that list it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from cache import edges

NAMES = "names"
VECTORS = {  # columns of the mention and the entity
    "text": ("mention.text.span", "entity.text.sentence"),
    "joint": ("mention.joint.mention_sentence", "entity.joint.text"),
}
FUSED = 60  # the constant of reciprocal rank fusion
DEPTH = 4  # a source ranks so many times the length of a list before lists are fused
BLOCK, CHUNK = 512, 8_192  # mentions and entities compared at a time
MORE = 32  # scores that are looked at beside the k highest


class Nearest:
    """Vectors of entities (E, D), prepared to be compared with many; `order` (E,) is their place where they tie."""

    def __init__(self, entities: np.ndarray, order: np.ndarray) -> None:
        self._by_order = np.argsort(order)
        self._entities = torch.from_numpy(_unit(entities)[self._by_order])

    def best(self, mentions: np.ndarray, k: int, told: Callable[[int], None]) -> np.ndarray:
        """Return the k entities nearest to each mention (N, D) by cosine, best first: rows (N, k) int32.

        Products of vectors on the grid are exact, so the lists depend on the vectors alone. `told` hears of mentions
        that are done.
        """
        left, right = torch.from_numpy(_unit(mentions)), self._entities
        width = min(k, len(right))
        found = np.empty((len(mentions), width), np.int32)
        for begin in range(0, len(left), BLOCK):
            block = left[begin : begin + BLOCK].double()
            best = torch.empty(len(block), 0, dtype=torch.float64)
            places = torch.empty(len(block), 0, dtype=torch.int64)
            for start in range(0, len(right), CHUNK):
                scores = block @ right[start : start + CHUNK].double().T
                best = torch.cat([best, scores], 1)
                places = torch.cat([places, torch.arange(start, start + scores.shape[1]).expand_as(scores)], 1)
                best, chosen = _highest(best, width)
                places = places.gather(1, chosen)
            found[begin : begin + len(block)] = self._by_order[places.numpy()]
            told(len(block))
        return found


def by_cosine(
    mentions: np.ndarray, entities: np.ndarray, k: int, order: np.ndarray, told: Callable[[int], None]
) -> np.ndarray:
    """Return the k entities nearest to each mention, as Nearest.best does: (N, D), (E, D), (E,) -> (N, k) int32."""
    return Nearest(entities, order).best(mentions, k, told)


def fused(lists: Sequence[np.ndarray], k: int, order: np.ndarray) -> np.ndarray:
    """Return the union of ranked lists (N, any) of entity rows, -1 = padding, by reciprocal rank: (N, k) int32.

    `order` as in by_cosine; -1 where fewer entities are listed than k.
    """
    found = np.full((len(lists[0]), k), -1, np.int32)
    for row in range(len(found)):
        scores: dict[int, float] = {}
        for ranked in lists:
            for rank, entity in enumerate(ranked[row].tolist(), 1):
                if entity >= 0:
                    scores[entity] = scores.get(entity, 0.0) + 1 / (FUSED + rank)
        best = sorted(scores, key=lambda entity: (-scores[entity], order[entity]))[:k]
        found[row, : len(best)] = best
    return found


def place_of(names: Sequence[str], ids: Sequence[str]) -> np.ndarray:
    """Return every entity's place by name, then by id, (E,): where scores tie, rows may be ordered by history."""
    order = np.empty(len(names), np.int64)
    order[sorted(range(len(names)), key=lambda row: (names[row], ids[row]))] = np.arange(len(names))
    return order


def origin(sources: Sequence[str]) -> str:
    """Return how a recipe calls lists of these sources."""
    said = [
        "rapidfuzz token_set_ratio of names" if source == NAMES else f"cosine of {' and '.join(VECTORS[source])}"
        for source in sources
    ]
    joined = f", fused by reciprocal rank ({FUSED})" if len(said) > 1 else ""
    return f"{' + '.join(said)}{joined}, ties by name and id"


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1 on the grid, float32 (n, D)."""
    found = np.empty(vectors.shape, np.float32)
    for begin in range(0, len(vectors), edges.ROWS):
        rows = slice(begin, begin + edges.ROWS)
        found[rows] = edges.rounded(vectors[rows].astype(np.float64), normal=True)
    return found


def _highest(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k highest scores of each row and their columns, (n, k) twice, the first columns where they tie.

    torch.topk leaves ties in no order: a few more than k are taken, put in order, and looked at for a tie that was cut.
    """
    values, columns = scores.topk(min(k + MORE, scores.shape[1]))
    if values.shape[1] < scores.shape[1] and bool((values[:, k - 1] == values[:, -1]).any()):
        values, columns = scores.sort(dim=1, descending=True, stable=True)
        return values[:, :k], columns[:, :k]
    columns, by_column = columns.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    return values[:, :k], columns.gather(1, by_value)[:, :k]
