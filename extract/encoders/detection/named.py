"""A detector by name (`--detector`): any object detection model of transformers."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from cache.fingerprint import digest
from common.errors import NotFiniteError
from extract.config import ExtractConfig
from extract.encoders import transfer
from extract.encoders.base import ImageEncoder
from extract.encoders.compute import Compute
from extract.encoders.detection.categories import Categories
from extract.encoders.detection.model import DetectorModel, decisive_of
from extract.encoders.detector import THRESHOLD, Detector, Found
from extract.encoders.pixels import Read, Seen, read_of
from extract.weights import hub_files, hub_models
from extract.weights.sources import Weights, library, random_identity

Inputs = dict[str, np.ndarray]
Result = dict[str, torch.Tensor]  # of one picture
SIZE = "size"
THINNEST = 16  # long side / short side: thinner ones have less than a pixel, or than a patch, once they are resized


class NamedObjects(Detector):
    """The detector that --detector names.  Raises WeightsError, in one line, for a model that it cannot be."""

    def __init__(self, config: ExtractConfig, weights: Weights, compute: Compute, image: ImageEncoder) -> None:
        super().__init__(compute, image, config.objects)
        self._trained, self._threshold = not weights.random, 0.0 if weights.random else THRESHOLD
        place = hub_files.find(config.detector, weights, "objects")
        self._described = model = DetectorModel(place, tiny=weights.tiny)
        self.origin, self._processor = hub_files.origin(place.weights), model.processor()
        self._categories = Categories(model.config.id2label, place.folder)
        self.recipe: dict[str, Any] = {
            "encoder": f"AutoModelForObjectDetection {model.made.__name__}",
            "library": library("transformers", *(["timm"] if model.timm else [])),
            "weights": hub_files.identity(place.weights, "objects")
            if self._trained
            else random_identity(weights.kind, "transformers"),
            "config": digest(model.decisive),
            "processor": digest(decisive_of(self._processor)),
            "attention": model.attention,
            "labels": self._categories.said,
            "threshold": self._threshold,
            "thin": f"padded with black to 1:{THINNEST}",
            **self.crops_recipe(),
        }

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Return what the model's own processor makes of a picture."""
        return (self._inputs,)

    @torch.inference_mode()
    def _detect(self, images: Sequence[Seen]) -> list[Found]:
        """Return by picture the boxes (n, 4) inside it, scores and labels (n,) of what is found, best score first.

        Pictures of one size pass together, so that none is padded and no picture's objects depend on another's.
        """
        try:
            found = self._found(images)
        except hub_models.BROKEN as error:  # of what a config or a processor says
            raise hub_models.unfit(self._described.folder, "a detector that looks at pictures", error) from error
        self.counts["pictures"] += len(images)
        return [self._sorted(found[i], image.size) for i, image in enumerate(images)]

    def _inputs(self, image: Image.Image) -> Inputs:
        """Return what the processor makes of a picture, arrays (1, ...), and `size` (1, 2), as high and wide it was."""
        wide = _widened(image)
        made = self._processor(images=[wide], return_tensors="pt")
        return {name: tensor.numpy() for name, tensor in made.items()} | {SIZE: np.array([[wide.height, wide.width]])}

    def _found(self, images: Sequence[Seen]) -> dict[int, Result]:
        """Return by picture what the model's own processor makes of its outputs, all of which come back at once."""
        inputs = [read_of(image, self._inputs) for image in images]
        together: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, arrays in enumerate(inputs):
            together[arrays["pixel_values"].shape].append(i)
        sizes, passes = [], []
        for places in together.values():
            stacked = {name: np.concatenate([inputs[i][name] for i in places]) for name in inputs[places[0]]}
            sizes.append(stacked.pop(SIZE))
            passes.append(self._pass(stacked))
        fetched = iter(transfer.fetch(*(values for made in passes for values in (made.logits, made.pred_boxes)))())
        found: dict[int, Result] = {}
        for places, size, made in zip(together.values(), sizes, passes, strict=True):
            made.logits, made.pred_boxes = (torch.from_numpy(next(fetched)) for _ in range(2))
            found |= zip(places, self._read(made, size), strict=True)
        return found

    def _pass(self, inputs: Inputs) -> Any:
        with self._compute.autocast():
            there = {name: transfer.send([array], self._compute.device)[0] for name, array in inputs.items()}
            return self._model(**there)

    def _read(self, made: Any, sizes: np.ndarray) -> list[Result]:
        """Return what outputs, which are on the host, say of pictures of sizes (b, 2).  Raises NotFiniteError."""
        if not (torch.isfinite(made.logits).all() and torch.isfinite(made.pred_boxes).all()):
            raise NotFiniteError(
                f"{self._described.folder} gives NaN or infinity for a picture at {self._compute.precision}. Pass "
                "--precision fp32, or take another detector"
            )
        found: list[Result] = self._processor.post_process_object_detection(
            made, threshold=self._threshold, target_sizes=[(int(height), int(width)) for height, width in sizes]
        )
        return found

    def _sorted(self, found: Result, size: tuple[int, int]) -> Found:
        boxes, scores, labels = (found[name].numpy() for name in ("boxes", "scores", "labels"))
        boxes = np.clip(boxes, 0, np.array([*size, *size], np.float32))
        stored = self._categories.stored[labels]
        inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
        order = np.argsort(-scores, kind="stable")
        order = order[(stored > 0)[order] & inside[order]]
        return {"boxes": boxes[order], "scores": scores[order], "labels": stored[order]}

    @cached_property
    def _model(self) -> torch.nn.Module:
        return self._compute.place_packed(self._described.load(trained=self._trained))


def _widened(image: Image.Image) -> Image.Image:
    """Return a picture that is thinner than THINNEST with black below it or to its right, any other as it is."""
    least = -(-max(image.size) // THINNEST)
    if min(image.size) >= least:
        return image
    wide = Image.new("RGB", (max(image.width, least), max(image.height, least)))
    wide.paste(image, (0, 0))
    return wide
