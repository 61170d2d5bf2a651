"""The four edges of imported lists: CLIP's from the arrays, the others as cache.edges has them, of finished shards."""

import numpy as np

from cache.drin.columns import Columns
from cache.drin.lists import Lists
from cache.edges import EDGES, Edge, on_grid, similarities
from cache.names import ColumnName
from cache.writing.draft import Draft

PAIR_ROWS = 64  # mentions whose candidates' vectors are gathered at once

INPUTS = ("mention.text", "mention.image", "mention.objects", "entity.text", "entity.image", "entity.objects")
# mention and entity column of text_to_text: what the arrays have of an entity's text decides
CLS = Edge("text_to_text").columns
POOLER = ("mention.text.span", "entity.text.pooler")


def edges(draft: Draft, lists: Lists, rows: np.ndarray, clip: Columns, texts: tuple[str, str]) -> Columns:
    """Return the edges (n, C) of mention rows (n,); padding and relations of a missing picture are 0.

    `clip` holds text_to_image and image_to_text, `texts` the columns that text_to_text compares.
    """
    found: dict[str, np.ndarray] = {name: np.empty_like(clip["text_to_image"]) for name in EDGES}
    for begin in range(0, len(rows), PAIR_ROWS):
        at = slice(begin, begin + PAIR_ROWS)
        some = _edges(draft, lists.candidates[rows[at]], rows[at], texts)
        some["text_to_image"] = clip["text_to_image"][at] * some["text_to_image"]
        some["image_to_text"] = clip["image_to_text"][at] * some["image_to_text"]
        for name, values in some.items():
            found[name][at] = np.where(lists.candidates[rows[at]] < 0, 0, values)
    return found


def _edges(draft: Draft, listed: np.ndarray, rows: np.ndarray, texts: tuple[str, str]) -> dict[str, np.ndarray]:
    """Return two edges, and for CLIP's whether the picture is there."""
    entities, places = np.unique(listed.clip(0), return_inverse=True)
    places = places.reshape(listed.shape)

    def stored(name: str) -> np.ndarray:
        return draft.rows(name, rows if ColumnName(name).table == "mention" else entities)

    def products(mention: str, entity: str) -> np.ndarray:
        return similarities(on_grid(mention, stored(mention)), on_grid(entity, stored(entity)), places)

    return {
        "text_to_text": products(*texts),
        "image_to_image": products(*Edge("image_to_image").columns),
        "text_to_image": stored("entity.image.present")[places],
        "image_to_text": stored("mention.image.present")[:, None],
    }
