"""Options of ours.  No torch here."""

from dataclasses import dataclass, replace
from typing import Self

from common.options import knob
from train.checks import check_not_negative
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class OursConfig(HeadConfig):
    """ours; the widths are the cache's."""

    text_width: int = 768
    joint_width: int = 512
    image_width: int = 2048
    absent: tuple[str, ...] = ()  # columns of pictures of which the cache has none: not read
    prior: bool = knob(True, "read how often a string meant an entity in train", panel="ours")
    closest: int = knob(
        16, "candidates beside gold that it is trained on, the closest by strings; 0: all", panel="ours"
    )

    def __post_init__(self) -> None:
        check_not_negative(self, "closest")

    @property
    def reads_strings(self) -> bool:
        """Whether batches hold what strings say of pairs."""
        return True

    def without(self, absent: tuple[str, ...]) -> Self:
        """Return the options for a cache that has no picture for the columns `absent`."""
        return replace(self, absent=absent)
