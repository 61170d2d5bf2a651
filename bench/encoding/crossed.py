"""What crosses between host and device in one batch of each encoder, counted on a stand-in for the device."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.encoding.pictures import drawn
from bench.measuring import crossings
from bench.measuring.crossings import Crossings
from extract.encoders import Encoders

SIDES = ((80, 60), (80, 70), (60, 80), (90, 90))
TEXTS = ("Paris at night", "the harbor", "x", "one two three four")


def crossing(encoders: Encoders) -> list[dict[str, Any]]:
    """Return what one batch of each encoder sends and fetches, and how often the host waits for the device.

    The encoders are on the stand-in for a device from then on.  `torchvision alone` is the detector's own model, whose
    pictures are on the device already.
    """
    object.__setattr__(encoders.compute, "device", crossings.device())
    images = [drawn(i, size) for i, size in enumerate(SIDES)]
    found = []
    with torch.inference_mode(), Crossings() as counted:
        for name, run in _ways(encoders, images).items():
            run()  # loads the weights
            counted.clear()
            run()
            found.append({"batch": name} | counted.counts())
    return found


def _ways(encoders: Encoders, images: Sequence[Image.Image]) -> dict[str, Callable[[], Any]]:
    detector: Any = encoders.objects
    pixels = [torch.from_numpy(np.array(image)).to(encoders.compute.device) for image in images]
    return {
        "text": lambda: list(encoders.text.encode(TEXTS, 128)),
        "joint, texts": lambda: encoders.joint.encode_texts(TEXTS),
        "joint, pictures": lambda: encoders.joint.columns(images, ["joint"]),
        "joint, pictures and patches": lambda: encoders.joint.columns(images, ["joint", "patches"]),
        "image": lambda: encoders.image.columns(images, ["image"]),
        "image and regions": lambda: encoders.image.columns(images, ["image", "regions"]),
        "objects and their crops": lambda: encoders.objects.columns(images, ["objects"]),
        "torchvision alone": lambda: detector._model([image.permute(2, 0, 1).float() / 255 for image in pixels]),
    }
