"""Options of ours.  No torch here."""

from dataclasses import dataclass

from common.options import knob
from train.checks import check_at_least_one
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class OursConfig(HeadConfig):
    """ours; the width of texts is the cache's."""

    text_width: int = 768
    width: int = knob(384, "D, width of the space in which texts meet", panel="ours")
    prior: bool = knob(True, "read how often a string meant an entity in train", panel="ours")

    def __post_init__(self) -> None:
        check_at_least_one(self, "width")

    @property
    def reads_strings(self) -> bool:
        """Whether batches hold what strings say of pairs."""
        return True
