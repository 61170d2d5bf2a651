"""The four alignment similarities of DRIN (Eq. 6-8, 11): products of vectors that the cache already holds."""

from collections.abc import Callable

import numpy as np

CHUNK_BYTES = 64 << 20  # of gathered candidate vectors at a time


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return float32 vectors of length 1, (n, D) -> (n, D); a zero vector stays zero."""
    vectors = vectors.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def similarities(
    mentions: np.ndarray, entities: np.ndarray, candidates: np.ndarray, advance: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return the product of each mention vector with those of its candidates.

    mentions (N, D), entities (E, D), candidates (N, C) rows of entities with -1 = padding -> float32 (N, C),
    padding 0. Cosines if both sides are unit vectors.
    """
    result = np.zeros(candidates.shape, np.float32)
    step = max(1, CHUNK_BYTES // (4 * entities.shape[1] * max(1, candidates.shape[1])))
    for begin in range(0, len(mentions), step):
        rows = slice(begin, begin + step)
        gathered = entities[candidates[rows]]  # -1 gathers the last entity; masked below
        result[rows] = np.matmul(gathered, mentions[rows, :, None])[..., 0]
        if advance is not None:
            advance(len(gathered))
    return np.where(candidates >= 0, result, 0)


def align(columns: dict[str, np.ndarray], candidates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the four edges, each float32 (N, C), from stored columns of `mention` and `entity`.

    Relations of a missing picture are 0, as is image_to_image where either side has no object.
    """
    mention_present, entity_present = columns["mention.clip.present"], columns["entity.clip.present"]
    entity_there = entity_present[candidates]
    edges = {
        "text_to_text": _cosine(columns["mention.bert.cls"], columns["entity.bert.text"], candidates),
        "text_to_image": _cosine(columns["mention.clip.sentence"], columns["entity.clip.image"], candidates)
        * entity_there,
        "image_to_text": _cosine(columns["mention.clip.image"], columns["entity.clip.text"], candidates)
        * mention_present[:, None],
        "image_to_image": similarities(
            columns["mention.objects.summary"].astype(np.float32),
            columns["entity.objects.summary"].astype(np.float32),
            candidates,
        ),
    }
    return {name: np.clip(values, -1, 1) for name, values in edges.items()}


INPUTS = ("mention.bert", "mention.clip", "mention.objects", "entity.bert", "entity.clip", "entity.objects")


def _cosine(mentions: np.ndarray, entities: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    return similarities(unit(mentions), unit(entities), candidates)
