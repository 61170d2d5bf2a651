"""Knobs of the heads that DRIN compares with: bert, jmel, clip_linear, dzmned, mel_hi.  No torch here."""

from dataclasses import dataclass
from typing import Literal

from common.errors import ConfigError
from common.options import knob
from train.checks import MARGIN, check_margin, check_positive


@dataclass(frozen=True)
class JointConfig:
    """bert, jmel and clip_linear; widths are the cache's."""

    head: str = "bert"
    text_width: int = 768
    image_width: int = 2048
    clip_width: int = 512
    width: int = knob(768, "D, width of a modality in the joint space", panel="bert, jmel, clip_linear")
    ranking_loss: Literal["auto", "margin", "contrastive"] = knob(
        "auto", "margin: as drin's; auto: contrastive for jmel, else margin", panel="bert, jmel, clip_linear"
    )
    margin: float = knob(0.25, MARGIN, panel="bert, jmel, clip_linear")
    temperature: float = knob(0.1, "of the contrastive loss", panel="bert, jmel, clip_linear")

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"--width {self.width} must be at least 1")
        check_margin(self)
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"--temperature is {self.temperature:g}; it must be positive")

    def width_of(self, column: str) -> int:
        """Return the width of a feature column."""
        part = column.split(".")[1]
        return {"bert": self.text_width, "resnet": self.image_width, "clip": self.clip_width}[part]


@dataclass(frozen=True)
class DzmnedConfig:
    """DZMNED (Moon et al. 2018); widths are the cache's.  `characters` bounds the names that it reads as bytes."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, width of the space in which mention and entity meet", panel="dzmned")
    characters: int = knob(32, "bytes read of a mention's string and of an entity's name", panel="dzmned")
    character_width: int = knob(64, "of the vector that they give", panel="dzmned")
    margin: float = knob(0.25, MARGIN, panel="dzmned")

    def __post_init__(self) -> None:
        check_positive(self, "width", "characters", "character_width")
        check_margin(self)


@dataclass(frozen=True)
class MelHiConfig:
    """MEL-HI (Zhang et al. 2021) as DRIN compares with it; widths are the cache's."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, width of the space in which mention and entity meet", panel="mel_hi")
    lstm_width: int = knob(0, "state of the LSTM, 0 = as wide as its input: three BERT vectors", panel="mel_hi")
    tokens: int = knob(32, "T, tokens read of a sentence, [CLS] included", panel="mel_hi")
    threshold: float = knob(0.3, "cosines above it let the picture in", panel="mel_hi")
    margin: float = knob(0.25, MARGIN, panel="mel_hi")

    def __post_init__(self) -> None:
        check_positive(self, "width", "tokens")
        if self.lstm_width < 0:
            raise ConfigError(f"--lstm-width is {self.lstm_width}; it must be 0 (as wide as the input) or more")
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"--threshold is {self.threshold:g}; cosines lie between -1 and 1")
        check_margin(self)
