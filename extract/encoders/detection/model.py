"""A Hugging Face detector of any family: its config, its image processor, and its weights, loaded strictly."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from common.errors import WeightsError
from common.paths import is_file
from extract.encoders.compute import seeded
from extract.encoders.detection import backbones, toys
from extract.weights import hub_files, hub_models
from extract.weights.hub_files import Place

FAMILIES = "detr, conditional_detr, deformable_detr, rt_detr, rt_detr_v2, d_fine, yolos"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
PROCESSOR_REMARKS = ("auto_map", "processor_class", "_name_or_path", "transformers_version")
LARGEST = 1 << 22  # of any number in config.json
LONGEST_SIDE = 2048  # pixels, of a picture that a detector looks at


class DetectorModel:
    """A model as its folder describes it; nothing large is read.  Raises WeightsError, in one line, if it is none."""

    def __init__(self, place: Place, *, tiny: bool = False) -> None:
        from transformers import MODEL_FOR_OBJECT_DETECTION_MAPPING

        folder, self._weights = place.folder, place.weights
        self.folder, self._tiny = folder, tiny
        self.raw = hub_files.read_object(folder / hub_files.CONFIG)
        kind = hub_models.family(folder, self.raw, FAMILIES)
        if tiny:
            self.raw = toys.small(kind, self.raw, folder)
        _refuse_huge(self.raw, folder)
        self.config = hub_models.config(folder, kind, backbones.settled(kind, self.raw, folder))
        if type(self.config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
            raise WeightsError(
                f"{folder} is a model of family {kind}, which detects no objects. Expected a detector, such as "
                f"{FAMILIES}"
            )
        made: Any = MODEL_FOR_OBJECT_DETECTION_MAPPING[type(self.config)]
        self.made = made[0] if isinstance(made, tuple) else made
        self.attention = "sdpa" if self.made._supports_sdpa else "eager"  # as transformers chooses; backbones have none

    @property
    def decisive(self) -> dict[str, Any]:
        """What of config.json decides the numbers."""
        return hub_models.decisive(self.raw)

    @property
    def timm(self) -> bool:
        """Whether the backbone is timm's."""
        return getattr(getattr(self.config, "backbone_config", None), "model_type", None) == "timm_backbone"

    def processor(self) -> Any:
        """Return what makes tensors of pictures, and boxes of outputs.  Raises WeightsError."""
        from transformers import AutoImageProcessor

        there = [self.folder / name for name in PROCESSORS if is_file(self.folder / name)]
        if not there:
            raise WeightsError(
                f"no image processor in {self.folder}: expected {' or '.join(PROCESSORS)}. Download the model again"
            )
        for path in there:
            hub_files.read_object(path)  # transformers reads it whatever its size, and takes NaN
        try:
            with hub_models.quiet():
                found = AutoImageProcessor.from_pretrained(
                    self.folder, trust_remote_code=False, local_files_only=True, **(toys.PIXELS if self._tiny else {})
                )
        except hub_models.BROKEN as error:
            raise hub_models.unfit(self.folder, "an image processor", error) from error
        if not hasattr(found, "post_process_object_detection"):
            raise WeightsError(
                f"{self.folder} has the image processor {type(found).__name__}, which makes no boxes. Take the files "
                "of one detector"
            )
        if (sides := _sides(found)) > LONGEST_SIDE:
            raise WeightsError(
                f"the image processor in {self.folder} makes pictures of {sides:g} pixels a side, expected at most "
                f"{LONGEST_SIDE:,}. Download the model again"
            )
        return found

    def load(self, *, trained: bool) -> torch.nn.Module:
        """Return the model with its weights, or with random ones.

        Raises WeightsError where weights are missing or do not fit.
        """
        with seeded():
            if not trained:
                return hub_models.random(self.made, self.config, None, self.folder)
            return hub_models.filled(self.made, self.config, None, self._weights, "objects")


def decisive_of(processor: Any) -> dict[str, Any]:
    """Return what of an image processor decides the numbers, its class included."""
    known = {name: value for name, value in processor.to_dict().items() if name not in PROCESSOR_REMARKS}
    return known | {"image_processor_type": type(processor).__name__}


def _sides(processor: Any) -> float:
    """Return the longest side that an image processor makes of a picture; one that does not resize sets no limit."""
    if not getattr(processor, "do_resize", True):
        return math.inf
    sizes = (getattr(processor, name, None) or {} for name in ("size", "pad_size", "crop_size"))
    return max((side for size in sizes for _, side in _numbers(dict(size))), default=0)


def _refuse_huge(raw: dict[str, Any], folder: Path) -> None:
    """Raise WeightsError for a number that no detector has."""
    for name, value in _numbers(raw):
        if abs(value) > LARGEST:
            raise WeightsError(
                f"{folder}/config.json: {name} is {value!s:.40}, which no detector has. Download it again"
            )


def _numbers(raw: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        else:
            found = value if isinstance(value, list) else [value]
            yield from ((name, number) for number in found if type(number) is int)
