"""Encoders of pictures and detectors of the user's own: `--image FILE.py`, `--detector FILE.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cache.kinds import LABELS
from common.errors import ConfigError
from extract.encoders.base import ImageEncoder
from extract.encoders.detector import Detector, Found
from extract.encoders.own.encoder_file import EncoderFile
from extract.encoders.pixels import Seen, plain


def copies(images: Sequence[Seen]) -> list[Image.Image]:
    """Return copies of pictures: what a file does to them (thumbnail, paste) no other encoder shall see."""
    return [plain(image).copy() for image in images]


class OwnImage(ImageEncoder):
    """The image encoder of a file: `encode_images`, and `encode_regions` where it has regions."""

    needed = ("width", "encode_images")

    def __init__(self, file: EncoderFile, batch: int) -> None:
        super().__init__(file.compute, batch)
        self._file, self.name = file, file.path.name
        self.width, self.regions = file.number("width"), file.number("regions") if file.has("regions") else 0
        self.recipe = file.recipe(f"{batch} pictures of one shard in row order")

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part.  Raises ConfigError for regions of an encoder that has none."""
        if part == "mention.regions" and not (self.regions and self._file.has("encode_regions")):
            raise ConfigError(
                f"{self._file.path}: Encoder has no regions or no encode_regions, which a head of --for reads"
            )
        return super().recipe_of(part)

    def features(self, images: Sequence[Seen]) -> Sequence[Seen]:
        """Return the pictures themselves: the file does the rest."""
        return images

    def pooled(self, features: Sequence[Seen]) -> np.ndarray:
        """Return what encode_images gives."""
        return self._file.array("encode_images", (len(features), self.width), copies(features))

    def places(self, features: Sequence[Seen]) -> np.ndarray:
        """Return what encode_regions gives."""
        return self._file.array("encode_regions", (len(features), self.regions, self.width), copies(features))


class OwnObjects(Detector):
    """The detector of a file: `detect`."""

    needed = ("detect",)

    def __init__(self, file: EncoderFile, image: ImageEncoder, keep: int) -> None:
        super().__init__(file.compute, image, keep)
        self._file, self.name = file, file.path.name
        self.recipe = file.recipe("pictures of one batch together") | self.crops_recipe()

    def _detect(self, images: Sequence[Seen]) -> list[Found]:
        found = self._file.several(self._file.call("detect", copies(images)), "detect", len(images))
        self.counts["pictures"] += len(images)
        return [self._checked(*given) for given in zip(found, images, strict=True)]

    def _checked(self, value: Any, image: Seen) -> Found:
        """Return what was found in a picture, best first; boxes end at its edges."""
        boxes, scores, labels = self._file.several(value, "detect", 3)
        labels = self._file.checked(labels, "detect", (None,))
        count = len(labels)
        scores = self._file.checked(scores, "detect", (count,))
        boxes = self._file.checked(boxes, "detect", (count, 4)) if count else np.zeros((0, 4), np.float32)
        if count and (scores.min() < 0 or labels.min() < 1 or labels.max() > LABELS or (labels % 1).any()):
            said = f"scores of 0 and more and whole labels above 0, at most {LABELS:,}"
            raise self._file.wrong("detect", said, f"{scores} and {labels}")
        if (boxes[:, :2] > boxes[:, 2:]).any():
            raise self._file.wrong("detect", "boxes x1, y1, x2, y2", f"{boxes.tolist()!s:.60}")
        best = np.argsort(-scores, kind="stable")
        edges = np.array([*image.size, *image.size], np.float32)
        return {"boxes": boxes[best].clip(0, edges), "scores": scores[best], "labels": labels[best].astype(np.int64)}
