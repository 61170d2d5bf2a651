"""A timm model: what it reads of a picture and what it gives, known before its weights, which are loaded strictly."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor

from common.errors import WeightsError
from extract.encoders.compute import quiet, seeded
from extract.encoders.image.timm_files import Found
from extract.weights import states

# arguments of classes that make a toy of them; a class without any stays as it is
# (layers scaled by the usual 1e-5 would leave all pictures alike)
TRANSFORMER: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0, "init_values": 1.0}
TINY: dict[str, dict[str, Any]] = {
    "VisionTransformer": TRANSFORMER,
    "Eva": TRANSFORMER,
    "Beit": TRANSFORMER,
    "ResNet": {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)},
    "ConvNeXt": {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)},
    "SwinTransformer": {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 4)},
}
TINY_SIDE = 64
CROPPED, LONGEST_SIDE = (0.1, 10.0), 8192  # share of a resized picture that is read, and pixels of it
_BROKEN = (*states.UNREADABLE, ImportError)


@dataclass(frozen=True)
class Shape:
    """What comes out: `width` numbers a picture, and `regions` places as wide as that, 0 where there are none.

    `prefix` tokens stand before the patches; `layout` is how the last features lie: NCHW, NHWC or NLC.
    """

    width: int
    regions: int
    prefix: int
    layout: str


class TimmModel:
    """A model as timm or a folder describes it.  Raises WeightsError, in one line, where it cannot be built."""

    def __init__(self, found: Found, *, tiny: bool = False) -> None:
        self.found = found
        self._more: dict[str, Any] = {}
        model = self._described({})
        if tiny and (more := _small(model)):
            self._more, model = more, self._described(more)
        self.kind, config = type(model).__name__, model.pretrained_cfg
        self.architecture: str = config["architecture"]
        self.arguments = getattr(model, "_model_args", {}) | self._more
        self.preprocessing: dict[str, Any] = timm.data.resolve_model_data_config(model)
        try:
            self.pooling = _pooling(model)
            self._check_preprocessing()
            self.shape = self._shape(model)
        except _BROKEN as error:  # of what a config says
            raise self._unfit(error) from error

    def load(self) -> torch.nn.Module:
        """Return the model with its weights, or with random ones.  Raises WeightsError where they do not fit."""
        path = self.found.weights
        if path is None:
            states.refuse_unaffordable(self._described(self._more), self.found.name)
            with seeded(), quiet():
                return timm.create_model(self.found.name, num_classes=0, **self._more)
        state, described = states.read(path, self.found.name), self._described({})
        states.refuse_larger(described, state, path, self.architecture)
        failed: list[Exception] = []
        for classes in _classes(described.pretrained_cfg, state):
            told = {"state_dict": dict(state), "source": None, "num_classes": classes, "label_offset": 0}
            try:
                with seeded(), quiet():
                    model = timm.create_model(
                        self.found.name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=told
                    )
            except _BROKEN as error:
                failed.append(error)
            else:
                if resized := _resized(model, state):
                    raise states.unfit(path, self.architecture, resized)
                model.pretrained_cfg = model.default_cfg = described.pretrained_cfg  # not the weights once more
                return model
        raise states.unfit(path, self.architecture, failed[0]) from failed[0]

    def transform(self) -> Any:
        """Return the model's own transform of a PIL picture, as in evaluation."""
        return timm.data.create_transform(**self.preprocessing, is_training=False)

    def _check_preprocessing(self) -> None:
        """Raise WeightsError where the transform makes no picture of the size that the model reads."""
        share, size = self.preprocessing["crop_pct"], tuple(self.preprocessing["input_size"])
        if size[0] != 3:
            raise WeightsError(f"--image {self.found.name}: it reads {size[0]} channels, and pictures here have 3, RGB")
        if not CROPPED[0] <= share <= CROPPED[1] or max(size) > LONGEST_SIDE:
            raise ValueError(f"it reads pictures of {size}, a share of {share:g} of what they are resized to")
        made = self.transform()(Image.new("RGB", (8, 8)))
        if tuple(made.shape) != size or not made.isfinite().all():
            raise ValueError(f"its preprocessing makes {tuple(made.shape)} of a picture, and it reads {size}")

    def regions(self, features: Tensor) -> Tensor:
        """Return the places of the last features, row by row: (b, R, V)."""
        if self.shape.layout == "NLC":
            return features[:, self.shape.prefix :]
        return features.flatten(1, 2) if self.shape.layout == "NHWC" else features.flatten(2).transpose(1, 2)

    def _described(self, more: dict[str, Any]) -> torch.nn.Module:
        """Return the model without any numbers in it."""
        try:
            with torch.device("meta"), quiet():
                model = timm.create_model(self.found.name, num_classes=0, **more)
        except _BROKEN as error:
            raise self._unfit(error) from error
        model.eval()
        return model

    def _shape(self, model: torch.nn.Module) -> Shape:
        """Return what comes out of the model, from a pass that computes nothing."""
        size = self.preprocessing["input_size"]
        try:
            with torch.inference_mode():
                features = model.forward_features(torch.empty(2, *size, device="meta"))
                pooled = model.forward_head(features, pre_logits=True)
        except _BROKEN as error:
            raise self._unfit(error) from error
        if not isinstance(pooled, Tensor) or pooled.ndim != 2:
            raise WeightsError(
                f"--image {self.found.name}: {self.kind} pools to no vector of a picture. Take another model"
            )
        return _laid_out(model, features, pooled.shape[1], size[1:])

    def _unfit(self, error: Exception) -> WeightsError:
        said = " ".join(str(error).split()) or type(error).__name__
        return WeightsError(f"--image {self.found.name}: timm {timm.__version__} cannot build it: {said:.200}")


def _laid_out(model: torch.nn.Module, features: Any, width: int, size: tuple[int, int]) -> Shape:
    """Return the shape of what a model gives; features that are no grid as wide as the vector are no regions."""
    prefix = getattr(model, "num_prefix_tokens", None) or 0
    if not isinstance(features, Tensor):
        return Shape(width, 0, 0, "")
    if features.ndim == 4:
        layout = "NHWC" if getattr(model, "output_fmt", "") == "NHWC" else "NCHW"
        (_, height, breadth, channels) = features.shape if layout == "NHWC" else features.permute(0, 2, 3, 1).shape
        return Shape(width, height * breadth if channels == width else 0, 0, layout)
    if features.ndim != 3 or features.shape[2] != width:
        return Shape(width, 0, 0, "")
    stride = model.feature_info[-1]["reduction"]
    grid = -(-size[0] // stride) * -(-size[1] // stride)
    return Shape(width, grid if features.shape[1] - prefix == grid else 0, prefix, "NLC")


def _small(model: torch.nn.Module) -> dict[str, Any]:
    """Return arguments that make a toy of a model, as far as its class has some."""
    kinds = [TINY[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in TINY]
    if not kinds:
        return {}
    stride = model.feature_info[-1]["reduction"]
    side = max(TINY_SIDE // stride, 1) * stride
    sized = {"img_size": side} if hasattr(model, "patch_embed") else {}
    return kinds[0] | sized | {"pretrained_cfg_overlay": {"input_size": (3, side, side)}}


def _classes(config: dict[str, Any], state: states.State) -> list[int]:
    """Return how many classes the classifier of a file may have; 0: it has none."""
    names = config.get("classifier") or ()
    names = names if isinstance(names, list | tuple) else (names,)
    found = [state[f"{name}.weight"].shape[0] for name in names if state.get(f"{name}.weight", torch.tensor(0)).ndim]
    return found[:1] or list(dict.fromkeys([0, config.get("num_classes") or 0]))


def _resized(model: torch.nn.Module, state: states.State) -> str:
    """Return which weight timm has made of one of another size, as it does of positions, "" for none."""
    held = ((name, weight, state[name]) for name, weight in model.named_parameters() if name in state)
    wrong = (
        f"size mismatch for {name}: {tuple(there.shape)} in the file, {tuple(weight.shape)} in the model"
        for name, weight, there in held
        if weight.numel() != there.numel()
    )
    return next(wrong, "")


def _pooling(model: torch.nn.Module) -> str:
    """Return how timm calls the pooling of a model."""
    said = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", "")
    found: str = said if isinstance(said, str) else getattr(said, "pool_type", "")
    return found or "its own pooling"
