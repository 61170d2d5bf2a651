"""Options of DZMNED.  No torch here."""

from dataclasses import dataclass

from common.options import knob
from train.checks import MARGIN, check_at_least_one, check_not_negative
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class DzmnedConfig(HeadConfig):
    """DZMNED (Moon et al. 2018); widths are the cache's."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, width of the space in which mention and entity meet", panel="dzmned")
    characters: int = knob(32, "bytes read of a mention's string and of an entity's name", panel="dzmned")
    character_width: int = knob(64, "width of the vector made of these bytes", panel="dzmned")
    margin: float = knob(0.25, MARGIN, panel="dzmned")

    def __post_init__(self) -> None:
        check_at_least_one(self, "width", "characters", "character_width")
        check_not_negative(self, "margin")

    @property
    def bytes_read(self) -> int:
        """How many bytes of a name are read."""
        return self.characters
