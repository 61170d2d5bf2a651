"""Candidates by more than the name: sources that rank entities, and their union by reciprocal rank.

A source is `names` (token_set_ratio), or a role whose vectors of mention and entity are compared by cosine: `text` (the
mention's tokens in their sentence against `name: text`), or `joint`. Several are joined by reciprocal rank fusion
(Cormack, Clarke and Buettcher 2009): an entity's score is the sum of 1 / (60 + its rank) over the sources that list it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from extract.retrieval.nearest import Nearest, Places, best_first

NAMES = "names"
VECTORS = {  # columns of the mention and the entity
    "text": ("mention.text.span", "entity.text.sentence"),
    "joint": ("mention.joint.mention_sentence", "entity.joint.text"),
}
FUSED = 60  # the constant of reciprocal rank fusion
DEPTH = 4  # a source ranks so many times the length of a list before lists are fused


def by_cosine(
    mentions: np.ndarray, entities: np.ndarray, k: int, order: Places, told: Callable[[int], None]
) -> np.ndarray:
    """Return the k entities nearest to each mention, as Nearest.best does: (N, D), (E, D), (E,) -> (N, k) int32."""
    return Nearest(entities, order).best(mentions, k, told)


def fused(lists: Sequence[np.ndarray], k: int, order: Places) -> np.ndarray:
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
        best = best_first(np.array([*scores], np.int64), np.array([*scores.values()]), order, k)[0]
        found[row, : len(best)] = best
    return found


def origin(sources: Sequence[str]) -> str:
    """Return how a recipe calls lists of these sources."""
    said = [
        "rapidfuzz token_set_ratio of names" if source == NAMES else f"cosine of {' and '.join(VECTORS[source])}"
        for source in sources
    ]
    joined = f", fused by reciprocal rank ({FUSED})" if len(said) > 1 else ""
    return f"{' + '.join(said)}{joined}, ties by name and id"
