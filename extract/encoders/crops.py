"""The objects that the detector found, cut out of their pictures (DWE)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from extract.encoders.detector import outward

RECIPE = "stored boxes rounded outwards in pixels of the decoded picture, then as CLIP's pictures"


def cut(
    images: Sequence[Image.Image], boxes: np.ndarray, labels: np.ndarray
) -> tuple[list[tuple[int, int]], list[Image.Image]]:
    """Return the place (row, k) and the picture of each object of n pictures: boxes (n, K, 4), labels (n, K).

    There is not an object where the label is 0.
    """
    places = [(int(row), int(k)) for row, k in np.argwhere(labels > 0)]
    return places, [images[row].crop(outward(boxes[row, k], images[row].size)) for row, k in places]
