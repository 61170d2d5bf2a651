"""ResNet-152: the pooled vector of a picture resized to 224 x 224 (DRIN Eq. 4, 5)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.encoders import torchvision_files
from extract.encoders.compute import Compute, seeded, tame
from extract.encoders.weights import Wanted, Weights, random_identity, sha256_file

SIDE, TINY_SIDE = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# the ImageNet V1 weights, as in the papers; V2 (f82ba261) has another recipe
FILE = Wanted("resnet152", ("resnet152-394f9c45.pth",), "https://download.pytorch.org/models/resnet152-394f9c45.pth")


class ResNet:
    """The image encoder.  `recipe` and `width` (V) are known before the weights are loaded."""

    def __init__(self, weights: Weights, compute: Compute, batch: int) -> None:
        self._weights, self._compute, self._batch = weights, compute, batch
        self._path: Path | None = None
        self._side = TINY_SIDE if weights.tiny else SIDE
        if not weights.random:
            self._path = weights.find(FILE, lambda: torchvision_files.download(FILE))
        self._model: torch.nn.Module | None = None
        self.encoded = 0
        self.width = 512 if weights.tiny else 2048
        self.recipe: dict[str, Any] = {
            "encoder": "torchvision resnet152" if not weights.tiny else "torchvision ResNet, tiny",
            "weights": sha256_file(self._path) if self._path else random_identity(weights.kind, "torchvision"),
            "resize": f"{self._side} x {self._side}, bicubic with antialias, on uint8",
            "mean": MEAN,
            "std": STD,
            "compute": compute.precision,
            "batch": f"{batch} pictures of one shard in row order",
        }

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the pooled vectors of RGB pictures: n pictures -> float32 (n, V)."""
        outputs = []
        for begin in range(0, len(images), self._batch):
            pixels = torch.stack([_pixels(image, self._side) for image in images[begin : begin + self._batch]])
            with self._compute.autocast():
                model = self._loaded()
                batch = pixels.to(self._compute.device, memory_format=torch.channels_last)
                outputs.append(model(batch).float().cpu().numpy())
            self.encoded += len(pixels)
        return np.concatenate(outputs) if outputs else np.zeros((0, self.width), np.float32)

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place(_load(self._path, self._weights.tiny)).to(
                memory_format=torch.channels_last
            )
        return self._model


def _pixels(image: Image.Image, side: int) -> torch.Tensor:
    resized = image.resize((side, side), Image.Resampling.BICUBIC)  # Pillow always antialiases
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)
    return pixels.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None])


def _load(path: Path | None, tiny: bool) -> torch.nn.Module:
    from torchvision.models import resnet, resnet152

    with seeded():
        model = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1]) if tiny else resnet152(weights=None)
    if path is not None:
        torchvision_files.load_strictly(model, path, FILE)
    elif not tiny:  # four blocks do not overflow, and tamed their vectors are faint beside those of texts
        tame(model)
    model.fc = torch.nn.Identity()
    return model
