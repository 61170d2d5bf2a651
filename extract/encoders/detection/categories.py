"""What labels of a detector are stored as: COCO's categories by their names, classes of its own behind them."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cache.fingerprint import digest
from cache.kinds import LABELS
from common.errors import WeightsError

OWN = 91  # + the model's number of a class that COCO does not have; COCO's are 1 to 90, and 1 is a person
# VOC's names, which RT-DETR has
OTHER_NAMES = {
    "motorbike": "motorcycle", "aeroplane": "airplane", "sofa": "couch", "tvmonitor": "tv", "hairdryer": "hairdrier",
}  # fmt: skip
NOTHING = ("na", "background", "noobject", "none")


class Categories:
    """The classes of a detector, whose config says their names by number; raises WeightsError for too many.

    `stored` (classes) is what stands in the cache for each, 0 for a name that says there is nothing; `said` stands in
    recipes.
    """

    def __init__(self, names: Mapping[int, str], folder: Path) -> None:
        if len(names) > LABELS - OWN or sorted(names) != list(range(len(names))):
            raise WeightsError(
                f"{folder}/config.json: id2label names {len(names):,} classes, expected at most {LABELS - OWN:,}, "
                "numbered from 0. Take another model"
            )
        coco = _coco()
        self.stored = np.array([_number(i, names[i], coco) for i in range(len(names))], np.int32)
        own = [f"{i} {names[i]}" for i in np.flatnonzero(self.stored >= OWN).tolist()]
        behind = f", {len(own)} others as {OWN} + the model's number ({digest(own)[:16]})" if own else ""
        self.said = f"COCO's by name{behind}: {digest(self.stored.tolist())[:16]}"


def _number(i: int, name: str, coco: Mapping[str, int]) -> int:
    word = _word(name)
    return 0 if word in NOTHING else coco.get(OTHER_NAMES.get(word, word), OWN + i)


def _coco() -> dict[str, int]:
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {_word(name): i for i, name in enumerate(names) if i and _word(name) not in NOTHING}


def _word(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
