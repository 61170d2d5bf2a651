"""An image encoder by name (`--image`): any model of timm, with its own preprocessing and pooling."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import timm
from PIL import Image
from torch import Tensor

from cache.fingerprint import digest
from common.errors import ConfigError
from extract.encoders.base import ImageEncoder
from extract.encoders.compute import Compute
from extract.encoders.image import timm_files
from extract.encoders.image.timm_model import TimmModel
from extract.encoders.pixels import Pixels, Read, Seen
from extract.images import MAX_ASPECT
from extract.weights import hub_files, states
from extract.weights.sources import Weights, random_identity


class NamedImage(ImageEncoder):
    """The image encoder that --image names.  Raises WeightsError, in one line, for a model that it cannot be."""

    def __init__(self, asked: str, weights: Weights, compute: Compute, batch: int) -> None:
        super().__init__(compute, batch)
        self.name, self._asked = hub_files.called(asked), asked
        found = timm_files.find(asked, weights)
        self._described = model = TimmModel(found, tiny=weights.tiny)
        self.width, self.regions = model.shape.width, model.shape.regions
        self.origin = None if found.weights is None else hub_files.origin(found.weights.parent)
        self.recipe: dict[str, Any] = {
            "encoder": f"timm {model.kind}",
            "architecture": model.architecture,
            "arguments": digest(_plain(model.arguments)),
            "library": f"timm {timm.__version__.partition('.')[0]}",
            "weights": states.identity(found.weights, found.name)
            if found.weights
            else random_identity(weights.kind, "timm"),
            "preprocessing": _plain(model.preprocessing) | {"aspect": f"middle of what is longer than {MAX_ASPECT}:1"},
            "pooling": f"{model.pooling}, before the classifier",
            "compute": compute.precision,
            "batch": f"{batch} pictures of one shard in row order",
        }

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part.  Raises ConfigError for regions of a model that has none."""
        if part != "mention.regions":
            return super().recipe_of(part)
        shape = self._described.shape
        if not shape.regions:
            raise ConfigError(
                f"--image {self._asked}: its last features are no grid as wide as its vector ({shape.width}), so it "
                "has no regions, which a head of --for reads. Take another model, or another head"
            )
        kept = f"patch tokens but {shape.prefix} before them" if shape.layout == "NLC" else "feature map"
        return super().recipe_of(part) | {"layer": f"last {kept}, row by row"}

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Return what makes a picture as large as it is read."""
        return (self._pixels.read,)

    def features(self, images: Sequence[Seen]) -> Tensor:
        """Return timm's forward_features of pictures."""
        pixels = self._pixels.batch(images, self._compute.device)
        with self._compute.autocast():
            features: Tensor = self._model.forward_features(pixels)
        return features

    def pooled(self, features: Tensor) -> Tensor:
        """Return timm's forward_head without the classifier."""
        with self._compute.autocast():
            pooled: Tensor = self._model.forward_head(features, pre_logits=True)
        return pooled

    def places(self, features: Tensor) -> Tensor:
        """Return the places of the last feature map, or the patch tokens."""
        return self._described.regions(features)

    @cached_property
    def _model(self) -> Any:
        return self._compute.place_packed(self._described.load())

    @cached_property
    def _pixels(self) -> Pixels:
        return Pixels.of(self._described.transform(), _bounded)


def _bounded(image: Image.Image) -> Image.Image:
    """Return the middle of a crop that is longer than any picture: transforms that scale its short side would swell."""
    most = MAX_ASPECT * min(image.size)
    width, height = (min(side, most) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _plain(values: Any) -> Any:
    """Return values as JSON has them; of what it lacks, such as a class, the name."""
    if isinstance(values, dict):
        return {str(name): _plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return values if isinstance(values, str | int | float | bool | None) else getattr(values, "__name__", str(values))
