"""What planning, computing, forecasting and counting ask of every encoder, whatever its role."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from cache.kinds import Source
from extract.encoders import transfer
from extract.encoders.compute import Compute
from extract.encoders.pixels import Read, Seen

Columns = Mapping[str, np.ndarray]  # values (n, ...) of n pictures, by column of a part
Made = dict[str, dict[str, np.ndarray]]  # the same, by kind of part
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

    def columns(self, images: Sequence[Seen], kinds: Sequence[str], stored: Columns = NONE) -> Made:
        """Return by kind of part the columns of n RGB pictures that one pass gives.

        `stored` are the columns (n, ...) that these kinds derive from.
        """
        return self.launched(images, kinds, stored)()

    def launched(self, images: Sequence[Seen], kinds: Sequence[str], stored: Columns = NONE) -> Callable[[], Made]:
        """Hand pictures to the device; the function that is returned waits for what `columns` gives."""
        raise NotImplementedError(f"{self.name} makes nothing of pictures")

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Return what a pass for these kinds reads of a picture, which threads may make ahead."""
        return ()

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

    def __init__(self, compute: Compute, batch: int) -> None:
        super().__init__("pictures", "crops")
        self._compute, self._batch = compute, batch

    def features(self, images: Sequence[Seen]) -> Any:
        """Return what the network makes of a batch of RGB pictures, before pooling."""
        raise NotImplementedError

    def pooled(self, features: Any) -> transfer.Numbers:
        """Return the vectors of the pictures of a batch: (b, V)."""
        raise NotImplementedError

    def places(self, features: Any) -> transfer.Numbers:
        """Return the vectors of their regions, row by row: (b, R, V)."""
        raise NotImplementedError

    def launched(self, images: Sequence[Seen], kinds: Sequence[str], stored: Columns = NONE) -> Callable[[], Made]:
        """Begin the columns of kinds image and regions, of one pass."""
        finish = self._begun(images, "pictures", regions="regions" in kinds)

        def made() -> Made:
            columns = dict(zip(("image", "regions"), finish(), strict=False))
            return {kind: {"vector": columns[kind]} for kind in kinds}

        return made

    def encode(self, images: Sequence[Seen], counted: str = "pictures") -> np.ndarray:
        """Return the pooled vectors of RGB pictures: n pictures -> float32 (n, V)."""
        return self.begun(images, counted)()

    def begun(self, images: Sequence[Seen], counted: str = "pictures") -> Callable[[], np.ndarray]:
        """Hand pictures to the device; the function that is returned waits for what `encode` gives."""
        finish = self._begun(images, counted)
        return lambda: finish()[0]

    def encode_regions(self, images: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` does, and the regions: n pictures -> (n, V), (n, R, V)."""
        pooled, regions = self._begun(images, "pictures", regions=True)()
        return pooled, regions

    @torch.inference_mode()
    def _begun(self, images: Sequence[Seen], counted: str, *, regions: bool = False) -> Callable[[], list[np.ndarray]]:
        """Begin all passes over pictures: their vectors, and with `regions` those of their places."""
        shapes = [(0, self.width), (0, self.regions, self.width)][: 1 + regions]
        passes = [[np.zeros(shape, np.float32) for shape in shapes].copy]
        for begin in range(0, len(images), self._batch):
            batch = images[begin : begin + self._batch]
            features = self.features(batch)
            more = [self.places(features)] if regions else []
            passes.append(transfer.fetch(self.pooled(features), *more))
            self.counts[counted] += len(batch)
        return lambda: [np.concatenate(of) for of in zip(*(fetched() for fetched in passes), strict=True)]
