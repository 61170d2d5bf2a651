"""What is in boxes of pictures, cut out in threads: the objects that a detector found."""

from collections.abc import Sequence

import numpy as np

from extract.encoders.compute import Compute
from extract.encoders.pixels import Picture, Read, Seen

RECIPE = "stored boxes rounded outwards in pixels of the decoded picture, then as CLIP's pictures"


def cut(found: Sequence[tuple[Seen, np.ndarray]], reads: Sequence[Read], compute: Compute) -> list[Picture]:
    """Return what is in n boxes (4,), each of a picture, and what is read of it: in threads, or on the device."""

    def one(of: tuple[Seen, np.ndarray]) -> Picture:
        picture = of[0] if isinstance(of[0], Picture) else Picture(of[0])
        return picture.cut(*outward(of[1], picture.size))

    if compute.on_device:
        return [one(of) for of in found]
    return compute.each(lambda of: one(of).prepared(reads), found)


def outward(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a box as whole pixels inside a picture of `size` (width, height), at least one pixel each way."""
    left, top = (int(np.clip(np.floor(box[i]), 0, size[i] - 1)) for i in (0, 1))
    right, bottom = (int(np.clip(np.ceil(box[i + 2]), low + 1, size[i])) for i, low in ((0, left), (1, top)))
    return left, top, right, bottom
