"""What planning, computing, forecasting and counting ask of every encoder, whatever its role."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
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

    The detector's objects are encoded by it, too: `counted` says whether pictures or crops of them are.
    """

    regions: int

    def encode(self, images: Sequence[Image.Image], counted: str = "pictures") -> np.ndarray:
        """Return the pooled vectors of RGB pictures: n pictures -> float32 (n, V)."""
        raise NotImplementedError(f"{self.name} gives no pooled vectors")
