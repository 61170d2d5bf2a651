"""All encoders of one extraction; building them finds and hashes the weights, nothing is loaded until needed."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import devices
from extract.config import ExtractConfig
from extract.encoders.bert import Bert
from extract.encoders.clip import Clip
from extract.encoders.compute import Compute
from extract.encoders.crops import Crops
from extract.encoders.detector import Objects
from extract.encoders.resnet import ResNet
from extract.weights import sources


class Encoders:
    """BERT, ResNet, CLIP and the detector.  Raises WeightsError before any work if a file is not to be had."""

    def __init__(self, config: ExtractConfig) -> None:
        self.weights = sources.parse(config.weights)
        if self.weights.tiny:
            torch.set_num_threads(1)  # threads that wait for each other made toy models up to 140 times slower
        devices.cap_threads()
        self.compute = Compute.choose(devices.choose(config.device), config.precision)
        self.bert = Bert(self.weights, self.compute, config.text_batch)
        self.resnet = ResNet(self.weights, self.compute, config.image_batch)
        self.clip = Clip(self.weights, self.compute, config.text_batch, config.image_batch)
        self.objects = Objects(self.weights, self.compute, self.resnet, config.detector, config.objects)
        self.crops = Crops(self.clip)
        self._config = config

    def pictures(self, images: Sequence[Image.Image], kinds: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """Return columns by part kind ("resnet", "regions", "clip", "objects") of decoded RGB pictures."""
        made = {}
        if "regions" in kinds:
            pooled, regions = self.resnet.encode_regions(images)
            made["regions"] = {"image": regions}
            if "resnet" in kinds:
                made["resnet"] = {"image": pooled}
        elif "resnet" in kinds:
            made["resnet"] = {"image": self.resnet.encode(images)}
        if "clip" in kinds:
            made["clip"] = {"image": self.clip.encode_images(images)}
        if "objects" in kinds:
            made["objects"] = self.objects.encode(images)
        return made

    def sizes(self) -> dict[str, int]:
        """Return the widths behind the axis letters of the schema."""
        own = {"D": self.bert.width, "V": self.resnet.width, "P": self.clip.width, "K": self.objects.keep}
        return own | {"R": self.resnet.regions}

    @cached_property
    def attributes(self) -> Any:
        """What CLIP vectors say of scenes and faces; only for an extraction that is asked for it."""
        from extract.attributes.by_clip import Attributes

        return Attributes(self.clip.encode_texts, gender=self._config.infer_gender, race=self._config.infer_race)
