"""A batch: mentions with their candidates, as tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """What a head sees.  Axes: B mentions, C candidates, T text width, V image width.

    mention_text (B, T), mention_image (B, V), entity_text (B, C, T), entity_image (B, C, V); edges (B, C, 2, 2),
    axes (mention modality, entity modality), text first; present (B, C): a real candidate, not padding; gold (B,)
    position of gold, -1 = not there; mention_image_present (B,), entity_image_present (B, C).
    Features are finite everywhere and 0 for a missing picture; those of padding and its edges mean nothing.
    entity_text is None where what the head projects of it is passed beside the batch.
    """

    mention_text: Tensor
    mention_image: Tensor
    entity_text: Tensor | None
    entity_image: Tensor
    edges: Tensor
    present: Tensor
    gold: Tensor
    mention_image_present: Tensor
    entity_image_present: Tensor


def make_batch(arrays: Mapping[str, np.ndarray]) -> Batch:
    """Return a batch of named numpy arrays (see Batch); floating types are kept, what is not present becomes 0.

    The two `*_image_present` arrays are optional: without them every picture is there.
    Raises ConfigError for a missing or foreign name, a shape that does not fit, or gold outside the candidates.
    """
    names = Batch.__annotations__.keys()
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
    return Batch(**tensors | {"gold": tensors["gold"].long()})


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
