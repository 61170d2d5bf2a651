"""The best K objects of a picture and Eq. 11's one vector that stands for them; Faster-RCNN R50-FPN finds them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.output import loading
from extract.encoders import crops, transfer
from extract.encoders.base import NONE, Columns, Encoder, ImageEncoder, Made
from extract.encoders.compute import Compute, seeded, tame
from extract.encoders.pixels import Seen, plain, sent
from extract.weights import torchvision_files
from extract.weights.sources import Wanted, Weights, random_identity, sha256_file

FILES = {
    "v1": Wanted(
        "fasterrcnn_resnet50_fpn",
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",),
        "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    ),
    "v2": Wanted(
        "fasterrcnn_resnet50_fpn_v2",
        ("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",),
        "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
    ),
}
DIVISIBLE = 128  # pixels: few sizes, which pictures that are alike share
THRESHOLD = 0.05  # torchvision's default
FOUND = ("boxes", "scores", "labels")
Found = dict[str, np.ndarray]  # of one picture, by these names


class Detector(Encoder):
    """What fills the role objects: boxes by `_detect`, and vectors of what is in them by the image encoder."""

    name = "detector"

    def __init__(self, compute: Compute, image: ImageEncoder, keep: int) -> None:
        super().__init__("pictures")
        self._compute, self._image = compute, image
        self.keep, self.width = keep, image.width

    def crops_recipe(self) -> dict[str, Any]:
        """Return what of a recipe is the same for all detectors."""
        return {
            "objects": self.keep,
            "crops": "boxes rounded outwards in pixels of the same decoded picture, then as the resnet part",
            "resnet": self._image.recipe,
            "compute": self._compute.precision,
        }

    def _detect(self, images: Sequence[Seen]) -> list[Found]:
        """Return by picture the boxes (n, 4) inside it, scores and labels (n,) of what is found, best score first."""
        raise NotImplementedError(f"{self.name} finds nothing")

    def encode(self, images: Sequence[Seen]) -> dict[str, np.ndarray]:
        """Return columns for n RGB pictures: boxes (n, K, 4), scores, labels (n, K), summary (n, V)."""
        return self.launched(images, ["objects"])()["objects"]

    def launched(self, images: Sequence[Seen], kinds: Sequence[str], stored: Columns = NONE) -> Callable[[], Made]:
        """Begin the columns of kind objects: what is found is known, and the vectors of its crops are on their way."""
        count = len(images)
        found = {
            "boxes": np.zeros((count, self.keep, 4), np.float32),
            "scores": np.zeros((count, self.keep), np.float32),
            "labels": np.zeros((count, self.keep), np.int32),
            "summary": np.zeros((count, self.width), np.float32),
        }
        kept = []
        for row, detection in enumerate(self._detect(images)):
            kept.append(min(self.keep, len(detection["scores"])))
            for name, values in detection.items():
                found[name][row, : kept[row]] = values[: kept[row]]
        boxes = [(image, box) for row, image in enumerate(images) for box in found["boxes"][row, : kept[row]]]
        finish = self._image.begun(crops.cut(boxes, self._image.reads(("image",)), self._compute), "crops")

        def made() -> Made:
            vectors = np.split(finish(), np.cumsum(kept)[:-1])
            for row, mine in enumerate(vectors):
                found["summary"][row] = summary(mine, found["scores"][row, : len(mine)])
            return {"objects": found}

        return made


class Objects(Detector):
    """torchvision's detector.  `recipe` is known before the weights are loaded."""

    def __init__(self, weights: Weights, compute: Compute, image: ImageEncoder, version: str, keep: int) -> None:
        super().__init__(compute, image, keep)
        self._weights, self._version = weights, version
        wanted = FILES[version]
        self._path = None if weights.random else weights.find(wanted, lambda: torchvision_files.download(wanted))
        self.recipe: dict[str, Any] = {
            "encoder": "torchvision FasterRCNN, tiny" if weights.tiny else f"torchvision {wanted.encoder}",
            "weights": sha256_file(self._path) if self._path else random_identity(weights.kind, "torchvision"),
            "resize": "the detector's own: shortest side to 800, longest to 1333" if not weights.tiny else "to 64",
            "threshold": 0.0 if weights.random else THRESHOLD,
            **self.crops_recipe(),
        }
        if compute.on_device:
            self.recipe["batch"] = f"pictures of one size, padded to multiples of {DIVISIBLE}: of no other's size"

    @torch.inference_mode()
    def _detect(self, images: Sequence[Seen]) -> list[Found]:
        """Return by picture the boxes (n, 4) inside it, scores and labels (n,) of what is found, best score first."""
        device = self._compute.device
        if self._compute.on_device:
            there = sent(images, device)
        else:
            there = transfer.send([np.asarray(plain(image)) for image in images], device)
        pixels = [picture.permute(2, 0, 1).float() / 255 for picture in there]
        detections: list[dict[str, torch.Tensor]] = [{}] * len(images)
        with self._compute.autocast():
            for places in self._alike([image.size for image in images]):
                for place, found in zip(places, self._model([pixels[i] for i in places]), strict=True):
                    detections[place] = found
        self.counts["pictures"] += len(images)
        fetched = iter(transfer.fetch(*(found[name] for found in detections for name in FOUND))())
        return [{name: next(fetched) for name in FOUND} for _ in detections]

    def _alike(self, sizes: Sequence[tuple[int, int]]) -> Iterable[Sequence[int]]:
        """Return which pictures of sizes (width, height) pass together: all, or those that are padded to one size."""
        if not self._compute.on_device:
            return [range(len(sizes))]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, (width, height) in enumerate(sizes):
            groups[_padded(width, height, self._model.transform)].append(place)
        return groups.values()

    @cached_property
    def _model(self) -> Any:
        model: Any = self._compute.place(_load(self._path, self._weights, self._version))
        if self._compute.on_device:
            model.transform.size_divisible = DIVISIBLE
        return model


def _padded(width: int, height: int, transform: Any) -> tuple[int, int]:
    """Return the width and height to which torchvision's transform pads a picture: resized in float32, as it does."""
    short, long = np.float32(min(width, height)), np.float32(max(width, height))
    scale = float(min(np.float32(transform.min_size[0]) / short, np.float32(transform.max_size) / long))
    wide, high = (-(-int(side * scale) // DIVISIBLE) * DIVISIBLE for side in (width, height))
    return wide, high


def summary(vectors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return sum_k s_k u_k / sum_k s_k over unit vectors u_k: vectors (k, V), scores (k,) -> (V,); zeros if none.

    The product of two summaries is DRIN's Eq. 11, because its double sum of cosines factorizes.
    """
    total = scores.sum()
    if total <= 0:
        return np.zeros(vectors.shape[1], np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1)
    return (scores[:, None] * units).sum(0) / total


def _load(path: Path | None, weights: Weights, version: str) -> torch.nn.Module:
    with loading("torchvision"):
        from torchvision.models import detection

    with seeded():
        if weights.tiny:
            return _settled(_tiny(), (8,))
        build = detection.fasterrcnn_resnet50_fpn if version == "v1" else detection.fasterrcnn_resnet50_fpn_v2
        threshold = 0.0 if weights.random else THRESHOLD  # untrained scores are about 1/91 each
        model = _settled(build(weights=None, weights_backbone=None, box_score_thresh=threshold), (4, 8, 16, 32))
    if path is None:
        return tame(model)
    torchvision_files.load_strictly(model, path, FILES[version])
    if version == "v1":  # trained with frozen norms of eps 0: torchvision's own builder sets it for these weights
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0
    return model


def _settled(model: torch.nn.Module, strides: tuple[int, ...]) -> torch.nn.Module:
    """Return the detector with the scales of its levels fixed.

    torchvision infers them from the first pictures that it sees and keeps them; a flat one (33 pixels high, padded
    to 64) gives wrong ones, so that every later picture's objects would depend on what came first.
    """
    pool, side = model.roi_heads.box_roi_pool, 32 * strides[-1]
    levels = {
        name: torch.zeros(1, 1, side // s, side // s) for name, s in zip(pool.featmap_names, strides, strict=True)
    }
    pool(levels, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])], [(side, side)])
    return model


def _tiny() -> torch.nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 7, stride=8, padding=3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, padding=1)
    )
    backbone.out_channels = 16
    return FasterRCNN(
        backbone,
        num_classes=91,
        rpn_anchor_generator=AnchorGenerator(((16, 32, 48),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=1),
        min_size=64,
        max_size=64,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_test=10,
        box_score_thresh=0.0,
        box_detections_per_img=10,
    )
