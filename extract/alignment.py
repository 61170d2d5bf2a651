"""The four alignment similarities of DRIN (Eq. 6-8, 11): products of vectors that the cache already holds.

Vectors are rounded to multiples of 1 / GRID first. Products of such numbers and all their sums are exact in float64, in
whatever order a processor adds them up. So the value of a pair depends on its two vectors alone, not on its place in a
list or on what else is there, and entities with equal vectors tie. What is rounded off is less than float32 rounds.
"""

import numpy as np

GRID = 2.0**25  # |m||e| <= 8 keeps sums of products of such steps below 2^53; a float32 of 0.5 has steps of 2^-24
ROWS = 2_048  # rounded at a time
CHUNK_BYTES = 1 << 20  # of gathered candidate vectors at a time: what a core's cache holds. With 64 MB twice the time


def on_grid(vectors: np.ndarray, *, normal: bool) -> np.ndarray:
    """Return vectors on the grid, float32 (n, D); `normal`: at length 1, where a zero vector stays zero."""
    found = np.empty(vectors.shape, np.float32)
    for begin in range(0, len(vectors), ROWS):
        wide = vectors[begin : begin + ROWS].astype(np.float64)
        if normal:
            norms = np.linalg.norm(wide, axis=1, keepdims=True)
            wide /= np.where(norms > 0, norms, 1)
        found[begin : begin + ROWS] = np.rint(wide * GRID) / GRID
    return found


def similarities(mentions: np.ndarray, entities: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the product of each mention vector with those of its candidates.

    mentions (N, D), entities (E, D), both on the grid, candidates (N, C) rows of entities with -1 = padding -> float32
    (N, C), padding 0. Cosines if both sides are unit vectors.
    """
    result = np.zeros(candidates.shape, np.float32)
    step = max(1, CHUNK_BYTES // (4 * entities.shape[1] * max(1, candidates.shape[1])))
    for begin in range(0, len(mentions), step):
        rows = slice(begin, begin + step)
        gathered = entities[candidates[rows]].astype(np.float64)  # -1 gathers the last entity; masked below
        result[rows] = np.matmul(gathered, mentions[rows, :, None].astype(np.float64))[..., 0]
    return np.where(candidates >= 0, result, 0)


def align(columns: dict[str, np.ndarray], candidates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the four edges, each float32 (N, C), from stored columns of `mention` and `entity`.

    Relations of a missing picture are 0, as is image_to_image where either side has no object.
    """
    mention_present, entity_present = columns["mention.clip.present"], columns["entity.clip.present"]
    entity_there = entity_present[candidates]
    listed, places = np.unique(candidates, return_inverse=True)
    places = np.where(candidates >= 0, places.reshape(candidates.shape), -1)

    def edge(mention: str, entity: str, *, normal: bool = True) -> np.ndarray:
        vectors = on_grid(columns[entity][listed], normal=normal)
        return similarities(on_grid(columns[mention], normal=normal), vectors, places)

    edges = {
        "text_to_text": edge("mention.bert.cls", "entity.bert.text"),
        "text_to_image": edge("mention.clip.sentence", "entity.clip.image") * entity_there,
        "image_to_text": edge("mention.clip.image", "entity.clip.text") * mention_present[:, None],
        "image_to_image": edge("mention.objects.summary", "entity.objects.summary", normal=False),
    }
    return {name: np.clip(values, -1, 1) for name, values in edges.items()}


INPUTS = ("mention.bert", "mention.clip", "mention.objects", "entity.bert", "entity.clip", "entity.objects")
