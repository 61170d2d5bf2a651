"""Options of MEL-HI.  No torch here."""

from dataclasses import dataclass

from common.options import knob
from train.checks import MARGIN, check, check_at_least_one, check_not_negative
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class MelHiConfig(HeadConfig):
    """MEL-HI (Zhang et al. 2021) as DRIN compares with it; widths are the cache's."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, width of the space in which mention and entity meet", panel="mel_hi")
    lstm_width: int = knob(0, "state of the LSTM, 0 = as wide as its input: three BERT vectors", panel="mel_hi")
    tokens: int = knob(32, "T, tokens read of a sentence, [CLS] included", panel="mel_hi")
    threshold: float = knob(0.3, "cosines above it let the picture in", panel="mel_hi")
    margin: float = knob(0.25, MARGIN, panel="mel_hi")

    def __post_init__(self) -> None:
        check_at_least_one(self, "width", "tokens")
        check(self, ("lstm_width",), "0 (as wide as the input) or more", lambda value: value >= 0)
        check(self, ("threshold",), "between -1 and 1, as cosines are", lambda value: -1 <= value <= 1)
        check_not_negative(self, "margin")

    @property
    def tokens_read(self) -> int:
        """How many tokens of a sentence are read."""
        return self.tokens
