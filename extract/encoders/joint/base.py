"""What every joint encoder does with batches: one vector a picture, one a text or one a token, in the same space."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cache.kinds import Source
from extract.encoders import crops
from extract.encoders.base import NONE, Columns, Encoder
from extract.encoders.compute import Compute

_STATES = {
    "reads": "distinct sentences of one range of mentions, in row order",
    "states": "last layer norm, projected as the text vector is",
}


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
        if part == "mention.joint_tokens":
            return self.tokens_recipe | {"reads": "distinct sentences"}
        if part == "mention.crops":
            return {"encoder": {"encoder": self.recipe, "crops": crops.RECIPE}}
        return super().recipe_of(part) | (_STATES if part == "joint_token.joint" else {})

    def columns(
        self, images: Sequence[Image.Image], kinds: Sequence[str], stored: Columns = NONE
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of kind joint, or of crops from `stored` boxes (n, K, 4) and labels (n, K)."""
        if "crops" not in kinds:
            return {"joint": {"image": self.encode_images(images)}}
        labels = stored["labels"]
        vectors = np.zeros((*labels.shape, self.width), np.float32)
        places, cut = crops.cut(images, stored["boxes"], labels)
        for place, vector in zip(places, self.encode_images(cut, "crops"), strict=True):
            vectors[place] = vector
        return {"crops": {"vector": vectors, "labels": labels}}

    def texts_of(self, source: Source, limit: int) -> Callable[[Sequence[str]], Any]:
        """Return the function that encodes texts, or sentences token by token; the model's own limit holds."""
        return self.encode_texts if source == "texts" else lambda texts: list(self.encode_tokens(texts))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image], counted: str = "pictures") -> np.ndarray:
        """Return the vectors of RGB pictures, not normalized: n pictures -> float32 (n, P)."""
        outputs = [np.zeros((0, self.width), np.float32)]
        for begin in range(0, len(images), self._image_batch):
            pixels = torch.stack([self.transform(image) for image in images[begin : begin + self._image_batch]])
            with self._compute.autocast():
                outputs.append(self.model.encode_image(pixels.to(self._compute.device)).float().cpu().numpy())
            self.counts[counted] += len(pixels)
        return np.concatenate(outputs)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], done: Callable[[], None] = lambda: None) -> np.ndarray:
        """Return the vectors of texts, not normalized, cut at the model's limit: n texts -> float32 (n, P).

        `done` is called after each batch.
        """
        vectors = np.zeros((len(texts), self.width), np.float32)
        for begin in range(0, len(texts), self._text_batch):
            ids = self.ids(texts[begin : begin + self._text_batch]).to(self._compute.device)
            with self._compute.autocast():
                vectors[begin : begin + len(ids)] = self.model.encode_text(ids).float().cpu().numpy()
            self.counts["texts"] += len(ids)
            done()
        return vectors

    @torch.inference_mode()
    def encode_tokens(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield for each text the state of each of its T tokens in the space of the text vectors: float32 (T, P).

        Where a model takes the end token's state as the vector of the text, as CLIP does, that is among them.
        """
        for begin in range(0, len(texts), self._text_batch):
            batch = texts[begin : begin + self._text_batch]
            with self._compute.autocast():
                projected = self.states(self.ids(batch).to(self._compute.device)).float().cpu().numpy()
            self.counts["sentences token by token"] += len(batch)
            yield from (row[: self.count(text)] for row, text in zip(projected, batch, strict=True))

    @property
    def model(self) -> Any:
        """The model with its weights, on the device; loaded when it is first asked for."""
        raise NotImplementedError

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The function from a picture to what the model reads of it, (3, H, W)."""
        raise NotImplementedError

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the states of tokens (n, T), padding included, projected as text vectors are: (n, T, P)."""
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


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[list[Any]]:
    """Yield a list that gets the outputs of a module while it runs inside another."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
