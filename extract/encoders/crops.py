"""CLIP vectors of the objects that the detector found, cut out of their picture (DWE)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from extract.encoders.clip import Clip
from extract.encoders.detector import outward


class Crops:
    """CLIP over cut-out objects.  `encoded` counts them."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.encoded = 0
        self.recipe: dict[str, Any] = {
            "encoder": clip.recipe,
            "crops": "stored boxes rounded outwards in pixels of the decoded picture, then as CLIP's pictures",
        }

    def encode(self, images: Sequence[Image.Image], boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return vectors of n RGB pictures' objects: boxes (n, K, 4), labels (n, K) -> float32 (n, K, P).

        Zeros where the label is 0: there is no object.
        """
        vectors = np.zeros((*labels.shape, self._clip.width), np.float32)
        there = [(int(row), int(k)) for row, k in np.argwhere(labels > 0)]
        crops = [images[row].crop(outward(boxes[row, k], images[row].size)) for row, k in there]
        for place, vector in zip(there, self._clip.encode_images(crops), strict=True):
            vectors[place] = vector
        self.encoded += len(crops)
        return vectors
