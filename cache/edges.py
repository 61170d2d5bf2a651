"""The four edges of DRIN (Eq. 6-8, 11), for all who compute them: products of vectors that the cache holds.

Vectors are rounded to multiples of 1 / GRID first. Products of such numbers and all their sums are exact in float64, in
whatever order a processor adds them up. So the value of a pair depends on its two vectors alone, not on its place in a
list or on what else is there, and entities with equal vectors tie. What is rounded off is less than float32 rounds.

The two edges of the joint encoder are cosines, or what a model like SigLIP takes for the probability that both belong
together: sigmoid(scale * cosine + bias), with its own scale and bias, which the recipe of pair.alignment then names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cache.names import ColumnName, PartName
from common.errors import CacheError

GRID = 2.0**25  # |m||e| <= 8 keeps sums of products of such steps below 2^53; a float32 of 0.5 has steps of 2^-24
ROWS = 2_048  # rounded at a time
CHUNK_BYTES = 1 << 20  # of gathered candidate vectors at a time: what a core's cache holds. With 64 MB twice the time

ALIGNMENT = PartName("pair.alignment")  # the part that holds them


class Edge(str):
    """One edge: the name of its column in pair.alignment, the mention's modality first."""

    __slots__ = ()

    @property
    def columns(self) -> tuple[ColumnName, ColumnName]:
        """The mention and the entity column whose vectors are multiplied."""
        mention, entity = SIDES[self]
        return ColumnName(mention), ColumnName(entity)

    @property
    def mention(self) -> ColumnName:
        """The mention column."""
        return self.columns[0]

    @property
    def entity(self) -> ColumnName:
        """The entity column."""
        return self.columns[1]

    @property
    def of_entity_picture(self) -> bool:
        """Whether it is an edge to the entity's picture."""
        return self.endswith("_to_image")

    @property
    def column(self) -> ColumnName:
        """The full name of the column that holds it."""
        return ALIGNMENT.column(self)

    @property
    def short(self) -> str:
        """The name in a narrow table: "t>i"."""
        return self.replace("text", "t").replace("image", "i").replace("_to_", ">")


# mention and entity column of each edge, in the order of the axes (mention modality, entity modality), text first
SIDES = {
    "text_to_text": ("mention.text.sentence", "entity.text.sentence"),
    "text_to_image": ("mention.joint.sentence", "entity.joint.image"),
    "image_to_text": ("mention.joint.image", "entity.joint.text"),
    "image_to_image": ("mention.objects.summary", "entity.objects.summary"),
}
EDGES = tuple(map(Edge, SIDES))
JOINT = EDGES[1:3]  # those of the joint encoder, between a text and a picture
JOINT_EDGES = "joint_edges"  # in the recipe of pair.alignment, where they are not cosines
_COLUMNS = (*(edge.mention for edge in EDGES), *(edge.entity for edge in EDGES))
# What the four edges of pairs outside the lists are computed from (protocols injected and whole-kb).
ALIGNMENT_READS = (
    *_COLUMNS,
    *(column.part.column("present") for column in _COLUMNS if column.column == "image"),
)

Floats = TypeVar("Floats")  # a float64 array of numpy, or a tensor: both have the operators used


def rounded(vectors: Floats, *, normal: bool) -> Floats:
    """Return float64 vectors (n, D) on the grid; `normal`: at length 1, where a zero vector stays zero."""
    values: Any = vectors
    if normal:
        lengths = (values * values).sum(-1)[..., None] ** 0.5
        values = values / (lengths + (lengths == 0))
    found: Floats = (values * GRID).round() / GRID
    return found


def on_grid(column: str, vectors: np.ndarray) -> np.ndarray:
    """Return the vectors of a column as their products are the edges, float32 (n, D)."""
    found, normal = np.empty(vectors.shape, np.float32), is_normal(column)
    for begin in range(0, len(vectors), ROWS):
        found[begin : begin + ROWS] = rounded(vectors[begin : begin + ROWS].astype(np.float64), normal=normal)
    return found


def is_normal(column: str) -> bool:
    """Whether the vectors of a column are compared at length 1: all but summaries, whose length counts (Eq. 11)."""
    return ColumnName(column).column != "summary"


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


@dataclass(frozen=True)
class Probability:
    """How a cosine of the joint encoder becomes the probability that a text and a picture belong together."""

    scale: float
    bias: float

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Probability | None":
        """Return what the recipe of pair.alignment says, None where edges are cosines.

        Raises CacheError for what is no number.
        """
        told = recipe.get(JOINT_EDGES)
        if told is None:
            return None
        given = [told.get(name) for name in ("scale", "bias")] if isinstance(told, dict) else []
        numbers = [float(x) for x in given if isinstance(x, (int, float)) and not isinstance(x, bool)]
        if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
            raise CacheError(
                f"{JOINT_EDGES} in the recipe of {ALIGNMENT} is {told!r:.80}, expected scale and bias of a "
                "probability. Extract the cache again, or pull it again"
            )
        return cls(*numbers)

    @property
    def recipe(self) -> dict[str, Any]:
        """What the recipe of pair.alignment says of it."""
        return {JOINT_EDGES: {"are": "sigmoid(scale * cosine + bias)", "scale": self.scale, "bias": self.bias}}

    def __call__(self, cosines: np.ndarray) -> np.ndarray:
        """Return the probabilities of cosines, float32 (n, ...)."""
        logits = self.scale * cosines.astype(np.float64) + self.bias
        found: np.ndarray = (0.5 + 0.5 * np.tanh(0.5 * logits)).astype(np.float32)  # a sigmoid that cannot overflow
        return found


def align(
    columns: dict[str, np.ndarray], candidates: np.ndarray, joint: Probability | None = None
) -> dict[str, np.ndarray]:
    """Return the four edges, each float32 (N, C), from stored columns of `mention` and `entity`.

    Relations of a missing picture are 0, as is image_to_image where either side has no object; so is padding. `joint`
    makes probabilities of the joint encoder's two.
    """
    listed, places = np.unique(candidates, return_inverse=True)
    places = np.where(candidates >= 0, places.reshape(candidates.shape), -1)
    found: dict[str, np.ndarray] = {
        edge: similarities(
            on_grid(edge.mention, columns[edge.mention]), on_grid(edge.entity, columns[edge.entity][listed]), places
        )
        for edge in EDGES
    }
    if joint is not None:
        found |= {edge: joint(found[edge]) * (candidates >= 0) for edge in JOINT}
    found["text_to_image"] *= columns["entity.joint.present"][candidates]
    found["image_to_text"] *= columns["mention.joint.present"][:, None]
    return found
