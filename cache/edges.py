"""The four edges of DRIN (Eq. 6-8, 11), for all who compute them: products of vectors that the cache holds.

Vectors are rounded to multiples of 1 / GRID first. Products of such numbers and all their sums are exact in float64, in
whatever order a processor adds them up. So the value of a pair depends on its two vectors alone, not on its place in a
list or on what else is there, and entities with equal vectors tie. What is rounded off is less than float32 rounds.
"""

from typing import TypeVar

import numpy as np

# What the four edges of pairs outside the lists are computed from (protocols injected and whole-kb).
ALIGNMENT_READS = (
    "mention.bert.cls",
    "mention.clip.sentence",
    "mention.clip.image",
    "mention.clip.present",
    "mention.objects.summary",
    "entity.bert.text",
    "entity.clip.text",
    "entity.clip.image",
    "entity.clip.present",
    "entity.objects.summary",
)

GRID = 2.0**25  # |m||e| <= 8 keeps sums of products of such steps below 2^53; a float32 of 0.5 has steps of 2^-24
ROWS = 2_048  # rounded at a time
CHUNK_BYTES = 1 << 20  # of gathered candidate vectors at a time: what a core's cache holds. With 64 MB twice the time

# mention and entity column of each edge, in the order of EDGES
SIDES = {
    "text_to_text": ("mention.bert.cls", "entity.bert.text"),
    "text_to_image": ("mention.clip.sentence", "entity.clip.image"),
    "image_to_text": ("mention.clip.image", "entity.clip.text"),
    "image_to_image": ("mention.objects.summary", "entity.objects.summary"),
}

Floats = TypeVar("Floats")  # a float64 array of numpy, or a tensor: both have the operators used


def rounded(vectors: Floats, *, normal: bool) -> Floats:
    """Return float64 vectors (n, D) on the grid; `normal`: at length 1, where a zero vector stays zero."""
    if normal:
        lengths = (vectors * vectors).sum(-1)[..., None] ** 0.5
        vectors = vectors / (lengths + (lengths == 0))
    return (vectors * GRID).round() / GRID


def on_grid(column: str, vectors: np.ndarray) -> np.ndarray:
    """Return the vectors of a column as their products are the edges, float32 (n, D)."""
    found, normal = np.empty(vectors.shape, np.float32), is_normal(column)
    for begin in range(0, len(vectors), ROWS):
        found[begin : begin + ROWS] = rounded(vectors[begin : begin + ROWS].astype(np.float64), normal=normal)
    return found


def is_normal(column: str) -> bool:
    """Whether the vectors of a column are compared at length 1: all but summaries, whose length counts (Eq. 11)."""
    return not column.endswith(".summary")


def similarities(mentions: np.ndarray, entities: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the product of each mention vector with those of its candidates, within -1 and 1.

    mentions (N, D), entities (E, D), both on the grid, candidates (N, C) rows of entities with -1 = padding -> float32
    (N, C), padding 0. Cosines if both sides are unit vectors.
    """
    result = np.zeros(candidates.shape, np.float32)
    step = max(1, CHUNK_BYTES // (4 * entities.shape[1] * max(1, candidates.shape[1])))
    for begin in range(0, len(mentions), step):
        rows = slice(begin, begin + step)
        gathered = entities[candidates[rows]].astype(np.float64)  # -1 gathers the last entity; masked below
        result[rows] = np.matmul(gathered, mentions[rows, :, None].astype(np.float64))[..., 0]
    return np.where(candidates >= 0, result, 0).clip(-1, 1)


def align(columns: dict[str, np.ndarray], candidates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the four edges, each float32 (N, C), from stored columns of `mention` and `entity`.

    Relations of a missing picture are 0, as is image_to_image where either side has no object.
    """
    listed, places = np.unique(candidates, return_inverse=True)
    places = np.where(candidates >= 0, places.reshape(candidates.shape), -1)
    found = {
        edge: similarities(on_grid(mention, columns[mention]), on_grid(entity, columns[entity][listed]), places)
        for edge, (mention, entity) in SIDES.items()
    }
    found["text_to_image"] *= columns["entity.clip.present"][candidates]
    found["image_to_text"] *= columns["mention.clip.present"][:, None]
    return found
