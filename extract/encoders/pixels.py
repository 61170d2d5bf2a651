"""What an encoder reads of a picture: an array, which a thread makes ahead, and what a device makes of that."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.encoders import transfer

Read = Callable[[Image.Image], Any]
# the ends of transforms of torchvision, timm and open_clip that a device does: to floats from 0 to 1, and normalized
SHARED = 12_288  # float32 of the 48 KiB that a block of threads shares on every GPU
TO_FLOATS = ("ToTensor", "MaybeToTensor")


class Picture:
    """A decoded RGB picture, and what encoders read of it; `there` (H, W, 3) is it on the device, if it was sent."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.size = image, image.size
        self.there: torch.Tensor | None = None
        self._made: dict[Read, Any] = {}

    def cut(self, left: int, top: int, right: int, bottom: int) -> "Picture":
        """Return what is in a box of the picture; on the device, too, if it is there."""
        if self.there is None:
            return Picture(self.image.crop((left, top, right, bottom)))
        found = Picture(self.image)
        found.size, found.there = (right - left, bottom - top), self.there[top:bottom, left:right]
        return found

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


def sent(pictures: Sequence[Seen], device: torch.device) -> list[torch.Tensor]:
    """Return pictures (H, W, 3) on the device: those that no encoder has sent are copied there at once."""
    found = [picture if isinstance(picture, Picture) else Picture(picture) for picture in pictures]
    missing = [picture for picture in found if picture.there is None]
    arrays = [picture.read(np.asarray) for picture in missing]
    for picture, there in zip(missing, transfer.send(arrays, device) if arrays else [], strict=True):
        picture.there = there
    return [picture.there for picture in found if picture.there is not None]


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
        return self._normalized(there.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format))

    def _normalized(self, values: torch.Tensor) -> torch.Tensor:
        """Return values from 0 to 255 (n, 3, H, W) normalized, in their place."""
        mean, std = self._scales = [scale.to(values.device) for scale in self._scales]  # the first batch moves them
        return values.div_(255).sub_(mean).div_(std)


class DevicePixels(Pixels):
    """How an encoder reads pictures that the device makes as large as it reads them: bicubic with antialias, on floats.

    Of a picture made as large as `resized` says of its height and width, the middle of `side` x `side` is read.
    """

    def __init__(
        self,
        resized: Callable[[int, int], tuple[int, int]],
        side: Callable[[], int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(np.asarray, mean, std)
        self._resized, self._side = resized, side

    def batch(self, pictures: Sequence[Seen], device: torch.device) -> torch.Tensor:
        """Return n pictures as an encoder reads them, float32 (n, 3, side, side) on the device."""
        return self._normalized(torch.cat([self._read_there(pixels) for pixels in sent(pictures, device)]))

    def _read_there(self, pixels: torch.Tensor) -> torch.Tensor:
        size, side, device = self._resized(*pixels.shape[:2]), self._side(), pixels.device
        if not _shared(pixels.shape[:2], size):
            pixels = pixels.cpu()
        values = pixels.permute(2, 0, 1)[None].float()
        made = torch.nn.functional.interpolate(values, size, mode="bicubic", antialias=True).clamp_(0, 255)
        top, left = (round((length - side) / 2) for length in size)
        return made[:, :, top : top + side, left : left + side].to(device)


def _shared(shape: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether torch's kernel can make a picture (H, W) so small on a GPU: weights for 32 columns fit into one block.

    A panorama of 40,000 x 1,500 made 224 wide does not; the host makes it.
    """
    high, wide = (2 * math.ceil(2 * max(1.0, long / short)) + 1 for long, short in zip(shape, size, strict=True))
    return 32 * wide + 33 * high <= SHARED


def short_side(side: int) -> Callable[[int, int], tuple[int, int]]:
    """Return the function from a height and a width to those of a picture whose short side is as long as `side`."""

    def resized(height: int, width: int) -> tuple[int, int]:
        long = int(side * max(height, width) / min(height, width))
        return (side, long) if height <= width else (long, side)

    return resized
