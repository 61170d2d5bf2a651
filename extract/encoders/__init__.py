"""All encoders of one extraction; building them finds and hashes the weights, nothing is loaded until needed."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cache.edges import Probability
from cache.kinds import KINDS, Role, passes
from cache.names import PartName
from common import devices
from common.errors import ConfigError
from common.output import loading
from extract.config import ExtractConfig
from extract.config.knobs import OPTIONS
from extract.encoders.base import NONE, Columns, Encoder, ImageEncoder
from extract.encoders.compute import Compute
from extract.encoders.detector import Detector, Objects
from extract.encoders.joint.base import JointEncoder
from extract.encoders.joint.clip import Clip
from extract.encoders.own.encoder_file import EncoderFile
from extract.encoders.own.pictures import OwnImage, OwnObjects
from extract.encoders.own.texts import OwnJoint, OwnText
from extract.encoders.pixels import Read, Seen
from extract.encoders.resnet import ResNet
from extract.encoders.text.batches import TextEncoder
from extract.encoders.text.bert import Bert
from extract.weights import sources


class Encoders:
    """One encoder a role: the papers', or the one that is named.  `weights` says by role where its weights come from.

    Raises WeightsError before any work if a file is not to be had.
    """

    def __init__(self, config: ExtractConfig) -> None:
        self._config, self.weights = config, sources.by_role(config)
        if all(weights.tiny for weights in self.weights.values()):
            torch.set_num_threads(1)  # threads that wait for each other made toy models up to 140 times slower
        devices.cap_threads()
        self.compute = Compute.choose(devices.choose(config.device), config.precision, config.workers, config.pixels)
        self.text: TextEncoder = self._text(config)
        self.joint: JointEncoder = self._joint(config)
        self.image: ImageEncoder = self._image(config)
        self.objects = self._objects(config)
        self._tell_apart()
        self.probability = _probability(str(config.joint), self.joint) if config.joint_edges == "probability" else None

    def _file(self, role: Role, needed: tuple[str, ...]) -> EncoderFile | None:
        """Return the user's own encoder of a role, with what a role needs of it; None where it is no file."""
        path = self._config.own(role)
        if path is None:
            return None
        return EncoderFile(f"--{OPTIONS[role]}", path, self.weights[role], self.compute, needed)

    def _text(self, config: ExtractConfig) -> TextEncoder:
        if config.text is None:
            return Bert(self.weights["text"], self.compute, config.text_batch)
        if file := self._file("text", OwnText.needed):
            return OwnText(file, config.text_batch)
        with loading("transformers"):
            from extract.encoders.text.named import (
                NamedText,
            )  # transformers: 12-18 s, and the default has no need of it

        return NamedText(config, self.weights["text"], self.compute)

    def _objects(self, config: ExtractConfig) -> Detector:
        weights = self.weights["objects"]
        if config.named("objects") is None:
            return Objects(weights, self.compute, self.image, config.detector, config.objects)
        if file := self._file("objects", OwnObjects.needed):
            return OwnObjects(file, self.image, config.objects)
        with loading("transformers"):
            from extract.encoders.detection.named import NamedObjects

        return NamedObjects(config, weights, self.compute, self.image)

    def _joint(self, config: ExtractConfig) -> JointEncoder:
        if config.joint is None:
            return Clip(self.weights["joint"], self.compute, config.text_batch, config.image_batch)
        if file := self._file("joint", OwnJoint.needed):
            return OwnJoint(file, config.text_batch, config.image_batch)
        with loading("open_clip"):
            from extract.encoders.joint.named import NamedJoint  # open_clip: as with transformers

        return NamedJoint(config, self.weights["joint"], self.compute)

    def _image(self, config: ExtractConfig) -> ImageEncoder:
        if config.image is None:
            return ResNet(self.weights["image"], self.compute, config.image_batch)
        if file := self._file("image", OwnImage.needed):
            return OwnImage(file, config.image_batch)
        with loading("timm"):
            from extract.encoders.image.named import NamedImage  # timm: 5 s

        return NamedImage(config.image, self.weights["image"], self.compute, config.image_batch)

    @property
    def by_role(self) -> dict[str, Encoder]:
        """The encoders in the order of roles."""
        return {"text": self.text, "joint": self.joint, "image": self.image, "objects": self.objects}

    def _tell_apart(self) -> None:
        """Add the role to names that two encoders have: tables count and time by name."""
        counts = Counter(encoder.name for encoder in self.by_role.values())
        for role, encoder in self.by_role.items():
            if counts[encoder.name] > 1:
                encoder.name = f"{encoder.name} ({role})"

    @property
    def origins(self) -> dict[str, str]:
        """Return by role which commit on the Hub an encoder's files are of, where that is known."""
        return {role: encoder.origin for role, encoder in self.by_role.items() if encoder.origin is not None}

    def of(self, part: PartName) -> Encoder:
        """Return the encoder that makes a part.  Raises ConfigError, naming the part, where its role has none."""
        role, known = KINDS[part].role, self.by_role
        if role not in known:
            raise ConfigError(f"part {part} has role {role!r}, expected one of {', '.join(known)}: see cache/kinds/")
        return known[role]

    def pictures(self, images: Sequence[Seen], parts: Sequence[PartName]) -> dict[PartName, dict[str, np.ndarray]]:
        """Return by part the columns of n decoded RGB pictures; parts of one pass together."""
        made = [self.launched(images, together)() for together in passes(parts)]
        return {part: columns for found in made for part, columns in found.items()}

    def launched(
        self, images: Sequence[Seen], together: Sequence[PartName], stored: Columns = NONE
    ) -> Callable[[], dict[PartName, dict[str, np.ndarray]]]:
        """Begin one pass over n decoded RGB pictures; the function that is returned waits for its columns by part.

        `stored` are the columns (n, ...) of what the parts derive from.
        """
        names = {part.kind: part for part in together}
        finish = self.of(together[0]).launched(images, list(names), stored)
        return lambda: {names[kind]: columns for kind, columns in finish().items()}

    def reads(self, parts: Sequence[PartName]) -> list[Read]:
        """Return what passes for parts read of a picture, which threads may make ahead."""
        found = [self.of(part).reads([part.kind]) for part in parts]
        return list(dict.fromkeys(read for reads in found for read in reads))

    def sizes(self) -> dict[str, int]:
        """Return the widths behind the axis letters of the schema."""
        own = {"D": self.text.width, "V": self.image.width, "P": self.joint.width, "K": self.objects.keep}
        return own | {"R": self.image.regions}

    @cached_property
    def attributes(self) -> Any:
        """What joint vectors say of scenes and faces; only for an extraction that is asked for it."""
        from extract.attributes.by_clip import Attributes

        asked = {"gender": self._config.infer_gender, "race": self._config.infer_race}
        return Attributes(self.joint.encode_texts, temperature=self.joint.logits.scale, **asked)


def _probability(asked: str, joint: JointEncoder) -> Probability:
    """Return what makes probabilities of a joint encoder's cosines.  Raises ConfigError for one without them."""
    if joint.logits.bias is None:
        raise ConfigError(
            f"--joint-edges probability: {asked} was trained to choose among many pairs (softmax) and gives no "
            "probability of one. Take a model with a bias of its logits, such as SigLIP, or --joint-edges cosine"
        )
    return Probability(joint.logits.scale, joint.logits.bias)
