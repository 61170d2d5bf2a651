"""What an encoder reads of a picture: an array, which a thread makes ahead, and what a device makes of that."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.encoders import transfer

Read = Callable[[Image.Image], Any]
# the ends of transforms of torchvision, timm and open_clip that a device does: to floats from 0 to 1, and normalized
TO_FLOATS = ("ToTensor", "MaybeToTensor")


class Picture:
    """A decoded RGB picture, and what encoders read of it."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._made: dict[Read, Any] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.size

    def prepared(self, reads: Iterable[Read]) -> "Picture":
        """Return the picture with what is read of it made."""
        for read in reads:
            self.read(read)
        return self

    def read(self, read: Read) -> Any:
        """Return what a function reads of the picture, which is made once."""
        if read not in self._made:
            self._made[read] = read(self.image)
        return self._made[read]


Seen = Image.Image | Picture


def plain(picture: Seen) -> Image.Image:
    """Return the picture alone."""
    return picture.image if isinstance(picture, Picture) else picture


def read_of(picture: Seen, read: Read) -> Any:
    """Return what a function reads of a picture, made ahead or now."""
    return picture.read(read) if isinstance(picture, Picture) else read(picture)


class Pixels:
    """How an encoder reads pictures: `read` makes an array of a picture, (H, W, 3) of uint8, and a device the rest.

    Without `mean` and `std`, by channel, of values from 0 to 1 `read` makes all there is to make, (3, H, W).
    """

    def __init__(self, read: Read, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        self.read = read
        self._scales = [torch.as_tensor(scale, dtype=torch.float32).view(-1, 1, 1) for scale in (mean, std)]
        self._normal = bool(len(mean))

    @classmethod
    def of(cls, transform: Any, first: Callable[[Image.Image], Image.Image] = lambda image: image) -> "Pixels":
        """Return what does the same as the transform of a library, PIL picture -> tensor (3, H, W), behind `first`."""
        steps = list(getattr(transform, "transforms", ()))
        kinds = [type(step).__name__ for step in steps[-2:]]
        if len(kinds) < 2 or kinds[0] not in TO_FLOATS or kinds[1] != "Normalize":
            return cls(lambda image: transform(first(image)).numpy())

        def read(image: Image.Image) -> np.ndarray:
            image = first(image)
            for step in steps[:-2]:
                image = step(image)
            return np.asarray(image)

        return cls(read, steps[-1].mean, steps[-1].std)

    def batch(self, pictures: Sequence[Seen], device: torch.device) -> torch.Tensor:
        """Return n pictures as an encoder reads them, float32 (n, 3, H, W) on the device: one copy."""
        there = transfer.send_stacked([read_of(picture, self.read) for picture in pictures], device)
        if not self._normal:
            return there
        mean, std = self._scales = [scale.to(device) for scale in self._scales]  # the first batch moves them
        values = there.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(255).sub_(mean).div_(std)
