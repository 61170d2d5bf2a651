"""Options of bert, jmel and clip_linear.  No torch here."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from cache.kinds import width_axis
from common.options import knob
from train.checks import MARGIN, check_at_least_one, check_not_negative, check_positive
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class JointConfig(HeadConfig):
    """bert, jmel and clip_linear; widths are the cache's."""

    head: str = "bert"
    text_width: int = 768
    image_width: int = 2048
    joint_width: int = 512
    width: int = knob(768, "D, width of a modality in the joint space", panel="bert, jmel, clip_linear")
    ranking_loss: Literal["auto", "margin", "contrastive"] = knob(
        "auto", "margin: as drin's; auto: contrastive for jmel, else margin", panel="bert, jmel, clip_linear"
    )
    margin: float = knob(0.25, MARGIN, panel="bert, jmel, clip_linear")
    temperature: float = knob(0.1, "temperature of the contrastive loss", panel="bert, jmel, clip_linear")

    def __post_init__(self) -> None:
        check_at_least_one(self, "width")
        check_not_negative(self, "margin")
        check_positive(self, "temperature")

    def named(self, name: str) -> Self:
        """Return the options of one of the three."""
        return replace(self, head=name)

    def width_of(self, column: str) -> int:
        """Return the width of a feature column."""
        return {"D": self.text_width, "V": self.image_width, "P": self.joint_width}[width_axis(column)]
