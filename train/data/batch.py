"""A batch: mentions with their candidates, as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cache.edges import EDGES
from common.errors import ConfigError

ALIGNMENTS = tuple(edge.column for edge in EDGES)
CANDIDATES = "pair.candidates.candidates"  # (B, C): which entities they are, where an objective asks for it
VERTICES = "pair.vertices"  # (B, C): which places hold an entity, be it no candidate; without it the candidates do

# names that make_batch takes: the columns of DRIN as the head sees them
NAMES = {
    "mention_text": "mention.text.span",
    "mention_image": "mention.image.vector",
    "mention_image_present": "mention.image.present",
    "entity_text": "entity.text.sentence",
    "entity_image": "entity.image.vector",
    "entity_image_present": "entity.image.present",
    "edges": "pair.alignment",
}


@dataclass(frozen=True)
class Batch:
    """What a head sees.  Axes: B mentions, C candidates.

    columns by their full name in the cache, of mentions (B, ...), of entities (B, C, ...), of pairs (B, C), and
    "pair.alignment", all four (B, C, 2, 2) with axes (mention modality, entity modality), text first;
    present (B, C): a real candidate, not padding; gold (B,) position of gold, -1 = not there.
    Features are finite everywhere and 0 for a missing picture; those of padding and its edges mean nothing.
    """

    columns: dict[str, Tensor]
    present: Tensor
    gold: Tensor

    def __getitem__(self, column: str) -> Tensor:
        """Return a column; of "pair.alignment" also one of the four, as "pair.alignment.text_to_image", (B, C)."""
        if column in ALIGNMENTS:
            return self.columns["pair.alignment"].flatten(-2)[..., ALIGNMENTS.index(column)]
        return self.columns[column]

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in an order that `like` knows."""
        return [*self.columns.values(), self.present, self.gold]

    def like(self, tensors: Sequence[Tensor]) -> "Batch":
        """Return a batch of the same columns with other tensors."""
        *columns, present, gold = tensors
        return Batch(dict(zip(self.columns, columns, strict=True)), present, gold)


def make_batch(arrays: Mapping[str, np.ndarray]) -> Batch:
    """Return a batch for DRIN of numpy arrays (NAMES, present, gold); types are kept, what is not present becomes 0.

    The two `*_image_present` arrays are optional: without them every picture is there.
    Raises ConfigError for a missing or foreign name, a shape that does not fit, or gold outside the candidates.
    """
    names = NAMES.keys() | {"present", "gold"}
    optional = {"mention_image_present": arrays["present"].shape[:1], "entity_image_present": arrays["present"].shape}
    missing, foreign = names - arrays.keys() - optional.keys(), arrays.keys() - names
    if missing or foreign:
        raise ConfigError(f"make_batch: missing {sorted(missing)}, not known {sorted(foreign)}")
    filled = {name: np.ones(shape, bool) for name, shape in optional.items()} | dict(arrays)
    _check_shapes(filled)
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in filled.items()}
    for name in ("present", "mention_image_present", "entity_image_present"):
        tensors[name] = tensors[name].bool()
    there = tensors["present"]
    for name, kept in (
        ("mention_image", tensors["mention_image_present"]),
        ("entity_text", there),
        ("entity_image", there & tensors["entity_image_present"]),
        ("edges", there),
    ):
        tensors[name][~kept] = 0
    return Batch({NAMES[name]: tensors[name] for name in NAMES}, there, tensors["gold"].long())


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    count, candidates = arrays["present"].shape
    text, image = arrays["mention_text"].shape[-1], arrays["mention_image"].shape[-1]
    shapes = {
        "mention_text": (count, text),
        "mention_image": (count, image),
        "entity_text": (count, candidates, text),
        "entity_image": (count, candidates, image),
        "edges": (count, candidates, 2, 2),
        "present": (count, candidates),
        "gold": (count,),
        "mention_image_present": (count,),
        "entity_image_present": (count, candidates),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ConfigError(f"make_batch: {name} has shape {arrays[name].shape}, expected {shape}")
    gold = arrays["gold"]
    if count and (gold.min() < -1 or gold.max() >= candidates):
        row = int(np.flatnonzero((gold < -1) | (gold >= candidates))[0])
        raise ConfigError(f"'gold' holds {gold[row]} at row {row}, but mentions have {candidates} candidates")
