"""What every joint encoder does with batches: one vector a picture, one a text or one a token, in the same space."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from cache.kinds import Source
from extract.encoders import crops, transfer
from extract.encoders.base import NONE, Columns, Encoder, Made
from extract.encoders.compute import Compute
from extract.encoders.flight import in_flight
from extract.encoders.joint import patches
from extract.encoders.pixels import Pixels, Read, Seen

_SENTENCES = "distinct sentences of one range of mentions, in row order"
_NAMES = "name: text of one range of entities, in row order"
# what recipes say of parts besides the encoder
_MORE = {
    "joint_token.joint": {"reads": _SENTENCES, "states": "last layer norm, projected as the text vector is"},
    "joint_token.states": {"reads": _SENTENCES, "states": "last layer norm"},
    "entity_joint_token.states": {"reads": _NAMES, "states": "last layer norm"},
    "entity.patches": {"patches": "last layer, not projected"},
    "mention.patches": {"patches": "last layer, not projected"},
}
NO_PATCHES = np.zeros((0, 1, 1), np.float32)
_PLACES = {"mention.joint_tokens": "distinct sentences", "entity.joint_tokens": "name: text"}


@dataclass(frozen=True)
class Logits:
    """How a model was trained to read cosines: logit = scale * cosine + bias; without a bias it compares many pairs."""

    scale: float
    bias: float | None


class JointEncoder(Encoder):
    """What fills the role joint.  `recipe` and `width` (P) are known before the weights are loaded.

    `tokens_recipe` decides which tokens a text has.
    """

    logits: Logits
    tokens_recipe: dict[str, Any]

    def __init__(self, compute: Compute, text_batch: int, image_batch: int) -> None:
        super().__init__("texts", "sentences token by token", "pictures", "crops")
        self._compute, self._text_batch, self._image_batch = compute, text_batch, image_batch

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part; where tokens lie is decided by the tokenizer alone."""
        if part in _PLACES:
            return self.tokens_recipe | {"reads": _PLACES[part]}
        if part == "mention.crops":
            return {"encoder": {"encoder": self.recipe, "crops": crops.RECIPE}}
        return super().recipe_of(part) | _MORE.get(part, {})

    def launched(self, images: Sequence[Seen], kinds: Sequence[str], stored: Columns = NONE) -> Callable[[], Made]:
        """Begin the columns of kind joint and patches, or of crops from `stored` boxes (n, K, 4) and labels (n, K)."""
        if "crops" in kinds:
            return self._of_crops(images, stored["boxes"], stored["labels"])
        finish = self._seen(images, "pictures", grids="patches" in kinds)

        def made() -> Made:
            vectors, grids = finish()
            columns = {"joint": {"image": vectors}, "patches": {"vector": grids}}
            return {kind: columns[kind] for kind in kinds}

        return made

    def _of_crops(self, images: Sequence[Seen], boxes: np.ndarray, labels: np.ndarray) -> Callable[[], Made]:
        places = [(int(row), int(k)) for row, k in np.argwhere(labels > 0)]
        found = [(images[row], boxes[row, k]) for row, k in places]
        finish = self._seen(crops.cut(found, self.reads(()), self._compute), "crops")

        def made() -> Made:
            vectors = np.zeros((*labels.shape, self.width), np.float32)
            for place, vector in zip(places, finish()[0], strict=True):
                vectors[place] = vector
            return {"crops": {"vector": vectors, "labels": labels}}

        return made

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Return what makes a picture as large as it is read; of crops nothing is made ahead."""
        return () if "crops" in kinds else (self.pixels.read,)

    def texts_of(self, source: Source, limit: int) -> Callable[[Sequence[str]], Any]:
        """Return the function that encodes texts, or sentences token by token; the model's own limit holds."""
        return self.encode_texts if source == "texts" else lambda texts: list(self.encode_tokens(texts))

    def encode_images(self, images: Sequence[Seen], counted: str = "pictures") -> np.ndarray:
        """Return the vectors of RGB pictures, not normalized: n pictures -> float32 (n, P)."""
        return self._seen(images, counted)()[0]

    @torch.inference_mode()
    def _seen(
        self, images: Sequence[Seen], counted: str, *, grids: bool = False
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Begin the vectors of pictures, float32 (n, P), and with `grids` their patches, float32 (n, G, I)."""
        passes = []
        for begin in range(0, len(images), self._image_batch):
            pixels = self.pixels.batch(images[begin : begin + self._image_batch], self._compute.device)
            with self._compute.autocast():
                see = patches.see(self.model.visual, pixels) if grids else (self.model.encode_image(pixels),)
                passes.append(transfer.fetch(*see))
            self.counts[counted] += len(pixels)

        def seen() -> tuple[np.ndarray, np.ndarray]:
            found = [fetched() for fetched in passes]
            vectors = np.concatenate([np.zeros((0, self.width), np.float32), *(one[0] for one in found)])
            return vectors, np.concatenate([one[1] for one in found]) if grids and found else NO_PATCHES

        return seen

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], done: Callable[[], None] = lambda: None) -> np.ndarray:
        """Return the vectors of texts, not normalized, cut at the model's limit: n texts -> float32 (n, P).

        `done` is called after each batch.
        """
        made = [np.zeros((0, self.width), np.float32)]
        begun = (self._begun(batch, lambda ids: [self.model.encode_text(ids)]) for batch in self._batches(texts))
        for (vectors,) in in_flight(begun, self._compute.ahead):
            made.append(vectors)
            self.counts["texts"] += len(vectors)
            done()
        return np.concatenate(made)

    @torch.inference_mode()
    def _begun(self, texts: Sequence[str], make: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> transfer.Fetched:
        """Begin what the model makes of the ids of a batch of texts."""
        [ids] = transfer.send([self.ids(texts).numpy()], self._compute.device)
        with self._compute.autocast():
            return transfer.fetch(*make(ids))

    def _batches(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        return (texts[begin : begin + self._text_batch] for begin in range(0, len(texts), self._text_batch))

    def encode_tokens(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield for each text the state of each of its T tokens in the space of the text vectors: float32 (T, P).

        Where a model takes the end token's state as the vector of the text, as CLIP does, that is among them.
        """
        return (found["joint"] for found in self.token_columns(texts, ("joint",)))

    def token_columns(self, texts: Sequence[str], kinds: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield for each text the states of its T tokens by kind of part, float32.

        Kind "states" as the last layer norm leaves them (T, L), "joint" projected as text vectors are (T, P).
        """

        def make(ids: torch.Tensor) -> list[torch.Tensor]:
            states = self.states(ids)
            return [states if kind == "states" else self.projected(states) for kind in kinds]

        begun = (self._begun(batch, make) for batch in self._batches(texts))
        for batch, found in zip(self._batches(texts), in_flight(begun, self._compute.ahead), strict=True):
            self.counts["sentences token by token"] += len(batch)
            for row, text in enumerate(batch):
                yield {kind: values[row, : self.count(text)] for kind, values in zip(kinds, found, strict=True)}

    @property
    def model(self) -> Any:
        """The model with its weights, on the device; loaded when it is first asked for."""
        raise NotImplementedError

    @cached_property
    def pixels(self) -> Pixels:
        """How the model reads pictures."""
        return Pixels.of(self.transform)

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The function from a picture to what the model reads of it, (3, H, W)."""
        raise NotImplementedError

    @property
    def sizes(self) -> dict[str, int]:
        """What is behind the axes of states and patches: L, I and G; only for an extraction that is asked for them."""
        raise NotImplementedError

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the states of tokens (n, T), padding included, behind the last layer norm: (n, T, L)."""
        raise NotImplementedError

    def projected(self, states: torch.Tensor) -> torch.Tensor:
        """Return states (n, T, L) as text vectors are projected: (n, T, P)."""
        raise NotImplementedError

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Return token ids, cut at the model's limit T and padded to it: (n, T)."""
        raise NotImplementedError

    def count(self, text: str, limit: int = 0) -> int:
        """Return how many tokens are read of a text, special ones included, whatever `limit` says."""
        raise NotImplementedError

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than are read."""
        raise NotImplementedError
