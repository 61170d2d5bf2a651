"""What planning, computing, forecasting and counting ask of every encoder, whatever its role."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image

from cache.kinds import Source

Columns = Mapping[str, np.ndarray]  # values (n, ...) of n pictures, by column of a part
NONE: Columns = MappingProxyType({})


class Encoder:
    """An encoder.  `recipe`, what decides its numbers, and `width` are known before its weights are loaded.

    `name` stands in tables, `counts` says how many of what it has encoded, `origin` which commit on the Hub its files
    are of (NAME@COMMIT), if that is known.
    """

    name: str
    origin: str | None = None
    width: int
    recipe: dict[str, Any]

    def __init__(self, *counted: str) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(counted, 0))

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return what decides the numbers of a part that the encoder makes, but for what the part reads."""
        return {"encoder": self.recipe}

    def columns(
        self, images: Sequence[Image.Image], kinds: Sequence[str], stored: Columns = NONE
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return by kind of part the columns of n RGB pictures that one pass gives.

        `stored` are the columns (n, ...) that these kinds derive from.
        """
        raise NotImplementedError(f"{self.name} makes nothing of pictures")

    def count(self, text: str, limit: int) -> int:
        """Return how many tokens of a text are read, at most `limit` where the encoder has no limit of its own."""
        raise NotImplementedError(f"{self.name} reads no tokens")

    def texts_of(self, source: Source, limit: int) -> Callable[[Sequence[str]], Any]:
        """Return the function that encodes texts which parts read in some way, cut at `limit` tokens."""
        raise NotImplementedError(f"{self.name} makes nothing of texts")


class ImageEncoder(Encoder):
    """What fills the role image.  `regions` (R) is how many places its last feature map has.

    `features` is one pass over a batch of pictures, and `pooled` and `places` say what is stored of it. The detector's
    objects are encoded by it, too: `counted` says whether pictures or crops of them are.
    """

    regions: int

    def __init__(self, batch: int) -> None:
        super().__init__("pictures", "crops")
        self._batch = batch

    def features(self, images: Sequence[Image.Image]) -> Any:
        """Return what the network makes of a batch of RGB pictures, before pooling."""
        raise NotImplementedError

    def pooled(self, features: Any) -> np.ndarray:
        """Return the vectors of the pictures of a batch: float32 (b, V)."""
        raise NotImplementedError

    def places(self, features: Any) -> np.ndarray:
        """Return the vectors of their regions, row by row: float32 (b, R, V)."""
        raise NotImplementedError

    def columns(
        self, images: Sequence[Image.Image], kinds: Sequence[str], stored: Columns = NONE
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of kinds image and regions, from one pass."""
        if "regions" not in kinds:
            return {"image": {"vector": self.encode(images)}}
        pooled, regions = self.encode_regions(images)
        made = {"image": {"vector": pooled}, "regions": {"vector": regions}}
        return {kind: made[kind] for kind in kinds}

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image], counted: str = "pictures") -> np.ndarray:
        """Return the pooled vectors of RGB pictures: n pictures -> float32 (n, V)."""
        pooled = [self.pooled(features) for features in self._passes(images, counted)]
        return np.concatenate([np.zeros((0, self.width), np.float32), *pooled])

    @torch.inference_mode()
    def encode_regions(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` does, and the regions: n pictures -> (n, V), (n, R, V)."""
        pooled, regions = [np.zeros((0, self.width), np.float32)], [np.zeros((0, self.regions, self.width), np.float32)]
        for features in self._passes(images, "pictures"):
            pooled.append(self.pooled(features))
            regions.append(self.places(features))
        return np.concatenate(pooled), np.concatenate(regions)

    def _passes(self, images: Sequence[Image.Image], counted: str) -> Iterator[Any]:
        for begin in range(0, len(images), self._batch):
            batch = images[begin : begin + self._batch]
            features = self.features(batch)
            self.counts[counted] += len(batch)
            yield features
