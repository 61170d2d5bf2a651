"""A joint encoder by name (`--joint`): any model of open_clip that has a tower for texts and one for pictures."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image

from common.errors import WeightsError
from extract.config import ExtractConfig
from extract.encoders.compute import Compute
from extract.encoders.joint import hub_parts
from extract.encoders.joint.base import JointEncoder
from extract.encoders.joint.kept import kept
from extract.encoders.joint.towers import Towers
from extract.encoders.joint.words import Words
from extract.weights import hub_files, open_clip_files, states
from extract.weights.open_clip_files import Found
from extract.weights.sources import Weights, random_identity

LONGEST_SIDE = 2048  # pixels of a picture that a model reads


class NamedJoint(JointEncoder):
    """The joint encoder that --joint names.  Raises WeightsError, in one line, for a model that it cannot be."""

    def __init__(self, config: ExtractConfig, weights: Weights, compute: Compute) -> None:
        super().__init__(compute, config.text_batch, config.image_batch)
        self._asked = asked = str(config.joint)
        self.name = hub_files.called(asked)
        found = open_clip_files.find(asked, weights)
        text = found.config.get("text_cfg")
        text = text if isinstance(text, dict) else {}
        self._towers = Towers(asked, found, hub_parts.tower(found, text), tiny=weights.tiny)
        with hub_parts.tokenizer(found, text) as folder:
            self._words = Words(asked, text, folder)
        self._preprocess = _preprocess(asked, found)
        self.width, self.logits = self._towers.width, self._towers.logits()
        self.tokens_recipe = self._words.recipe
        libraries = self._towers.libraries
        self.recipe: dict[str, Any] = self._words.recipe | {
            "encoder": f"open_clip {self._towers.kind.__name__}",
            "library": ", ".join(
                f"{name} {version.partition('.')[0]}"
                for name, version in ({"open_clip": open_clip.__version__} | libraries).items()
            ),
            "weights": states.identity(found.weights, self.name)
            if found.weights
            else random_identity(weights.kind, "open_clip_torch", *libraries),
            "config": self._towers.decisive,
            "image": self._preprocess,
            "logits": {"scale": self.logits.scale, "bias": self.logits.bias},
            "compute": compute.precision,
            "batch": f"{config.text_batch} texts and {config.image_batch} pictures of one shard in row order",
        }

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Return token ids, cut at the model's limit T and padded to it: (n, T)."""
        return self._words.ids(texts)

    def count(self, text: str, limit: int = 0) -> int:
        """Return how many tokens the model reads of a text, special ones included, whatever `limit` says."""
        return self._words.count(text)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than the model reads."""
        return self._words.is_cut(text)

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the states of tokens (n, T), padding included, behind the last layer norm: (n, T, L)."""
        hugging_face = hasattr(self._tower, "pooler")
        with kept(self._tower.transformer if hugging_face else self._tower.ln_final) as outputs:
            self.model.encode_text(ids)
        found: torch.Tensor = outputs[0].last_hidden_state if hugging_face else outputs[0]
        return found

    def projected(self, states: torch.Tensor) -> torch.Tensor:
        """Return states (n, T, L) as text vectors are projected: (n, T, P)."""
        tower = self._tower
        projection = tower.proj if hasattr(tower, "pooler") else tower.text_projection
        if projection is None:
            return states
        found: torch.Tensor = projection(states) if isinstance(projection, torch.nn.Module) else states @ projection
        return found

    @property
    def _tower(self) -> Any:
        return self.model if isinstance(self.model, CLIP) else self.model.text

    @cached_property
    def sizes(self) -> dict[str, int]:
        """What is behind the axes of states and patches, without the weights.  Raises WeightsError."""
        return self._towers.sizes(self._preprocess["size"])

    @cached_property
    def model(self) -> Any:
        """The model with its weights, on the device."""
        model = self._compute.place_packed(self._towers.load())
        size = self._preprocess["size"]
        try:
            with torch.inference_mode(), self._compute.autocast():
                ids = self.ids([""]).to(self._compute.device)
                tried = model.encode_text(ids), model.encode_image(torch.zeros(1, 3, *size, device=ids.device))
        except states.UNREADABLE as error:
            said = " ".join(str(error).split())[:200]
            raise WeightsError(f"{self._asked} cannot encode a text and a picture of {size}: {said}") from error
        if wrong := [tuple(found.shape) for found in tried if found.shape != (1, self.width)]:
            raise WeightsError(
                f"{self._asked} makes {wrong[0]} of a text or a picture, and its config says one vector of width "
                f"{self.width}"
            )
        return model

    @cached_property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The function from a picture to what the model reads of it, (3, H, W)."""
        found: Callable[[Image.Image], torch.Tensor] = image_transform_v2(PreprocessCfg(**self._preprocess), False)
        return found


def _preprocess(name: str, found: Found) -> dict[str, Any]:
    """Return how pictures are read, with every choice named.  Raises WeightsError for one that open_clip has not."""
    told = merge_preprocess_dict(PreprocessCfg(), dict(found.preprocess))
    size = found.config["vision_cfg"].get("image_size", 224)
    told["size"] = list(size) if isinstance(size, (list, tuple)) else [size, size]
    try:
        if max(told["size"]) > LONGEST_SIDE:
            raise ValueError(f"more than {LONGEST_SIDE:,} pixels a side")
        image_transform_v2(PreprocessCfg(**told), is_train=False)(Image.new("RGB", (4, 3)))
    except (*states.UNREADABLE, AssertionError) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{name}: its pictures cannot be read as it says ({str(told)[:200]}): {said}") from error
    return told | {"mean": list(told["mean"]), "std": list(told["std"])}
