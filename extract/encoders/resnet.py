"""ResNet-152 on pictures of 224 x 224: the pooled vector (DRIN Eq. 4, 5) and the regions that it is the mean of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.output import loading
from extract.encoders.base import ImageEncoder
from extract.encoders.compute import Compute, seeded, tame
from extract.encoders.pixels import DevicePixels, Pixels, Read, Seen
from extract.weights import torchvision_files
from extract.weights.sources import Wanted, Weights, random_identity, sha256_file

SIDE, TINY_SIDE = 224, 64
STRIDE = 32  # pixels of the picture, each way, that one place of the last feature map stands for
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# the ImageNet V1 weights, as in the papers; V2 (f82ba261) has another recipe
FILE = Wanted("resnet152", ("resnet152-394f9c45.pth",), "https://download.pytorch.org/models/resnet152-394f9c45.pth")


class ResNet(ImageEncoder):
    """The image encoder.  `recipe` and `width` (V) are known before the weights are loaded."""

    name = "ResNet"

    def __init__(self, weights: Weights, compute: Compute, batch: int) -> None:
        super().__init__(compute, batch)
        self._weights = weights
        self._path: Path | None = None
        self._side = TINY_SIDE if weights.tiny else SIDE
        self._pixels = (
            DevicePixels(lambda height, width: (self._side, self._side), lambda: self._side, MEAN, STD)
            if compute.on_device
            else Pixels(self._resized, MEAN, STD)
        )
        if not weights.random:
            self._path = weights.find(FILE, lambda: torchvision_files.download(FILE))
        self._model: torch.nn.Module | None = None
        self.width = 512 if weights.tiny else 2048
        self.recipe: dict[str, Any] = {
            "encoder": "torchvision resnet152" if not weights.tiny else "torchvision ResNet, tiny",
            "weights": sha256_file(self._path) if self._path else random_identity(weights.kind, "torchvision"),
            "resize": f"{self._side} x {self._side}, bicubic with antialias, on {compute.resized_as}",
            "mean": MEAN,
            "std": STD,
            "compute": compute.precision,
            "batch": f"{batch} pictures of one shard in row order",
        }

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part."""
        return super().recipe_of(part) | ({"layer": "layer4, row by row"} if part == "mention.regions" else {})

    @property
    def regions(self) -> int:
        """R, the places of the last feature map."""
        return (self._side // STRIDE) ** 2

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Return what makes a picture as large as it is read."""
        return (self._pixels.read,)

    def features(self, images: Sequence[Seen]) -> torch.Tensor:
        """Return the last feature maps of pictures, (b, V, h, w)."""
        pixels = self._pixels.batch(images, self._compute.device)
        with self._compute.autocast():
            model = self._loaded()
            x = pixels.contiguous(memory_format=torch.channels_last)
            x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
            maps: torch.Tensor = model.layer4(model.layer3(model.layer2(model.layer1(x))))
        return maps

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mean over each map."""
        with self._compute.autocast():
            pooled: torch.Tensor = self._loaded().avgpool(features).flatten(1)
        return pooled

    def places(self, features: torch.Tensor) -> torch.Tensor:
        """Return each place of the maps, row by row."""
        return features.flatten(2).transpose(1, 2)

    def _resized(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((self._side, self._side), Image.Resampling.BICUBIC))  # Pillow always antialiases

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place(_load(self._path, self._weights.tiny)).to(
                memory_format=torch.channels_last
            )
        return self._model


def _load(path: Path | None, tiny: bool) -> torch.nn.Module:
    with loading("torchvision"):
        from torchvision.models import resnet, resnet152

    with seeded():
        model = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1]) if tiny else resnet152(weights=None)
    if path is not None:
        torchvision_files.load_strictly(model, path, FILE)
    elif not tiny:  # four blocks do not overflow, and tamed their vectors are faint beside those of texts
        tame(model)
    model.fc = torch.nn.Identity()
    return model
