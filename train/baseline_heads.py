"""Knobs of the heads that DRIN compares with: bert, jmel, clip_linear, dzmned, mel_hi, ghmfc.  No torch here."""

from dataclasses import dataclass, replace
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
    tokens: int = knob(32, "T, tokens read of a sentence, [CLS] included", panel="mel_hi, ghmfc")
    threshold: float = knob(0.3, "cosines above it let the picture in", panel="mel_hi")
    margin: float = knob(0.25, MARGIN, panel="mel_hi")

    def __post_init__(self) -> None:
        check_positive(self, "width", "tokens")
        if self.lstm_width < 0:
            raise ConfigError(f"--lstm-width is {self.lstm_width}; it must be 0 (as wide as the input) or more")
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"--threshold is {self.threshold:g}; cosines lie between -1 and 1")
        check_margin(self)


# what the two forms of ghmfc are, switch by switch
GHMFC = {
    "original": {"blocks": "decoder", "phrases": True, "contrastive": 1.0, "entity": "cls", "ranking_loss": "triplet"},
    "light": {
        "blocks": "attention",
        "phrases": False,
        "contrastive": 0.0,
        "entity": "linear",
        "ranking_loss": "margin",
    },
}


@dataclass(frozen=True)
class GhmfcConfig:
    """GHMFC (Wang et al. 2022), or the lighter form that DRIN compares with; widths are the cache's.

    Switches that are None are decided by `ghmfc`: read them from `resolved`.
    """

    text_width: int = 768
    image_width: int = 2048
    ghmfc: Literal["original", "light"] = knob(
        "original", "GHMFC as published, or DRIN's lighter form; decides what is not given of the rest", panel="ghmfc"
    )
    blocks: Literal["decoder", "attention"] | None = knob(
        None,
        "layers of co-attention with self-attention and feed-forward, and a filter behind the gate, or without "
        "(default: decoder; light attention)",
        panel="ghmfc",
    )
    phrases: bool | None = knob(None, "a second level, of 1-, 2- and 3-grams (default: yes; light no)", panel="ghmfc")
    contrastive: float | None = knob(
        None, "weight of the loss between text and picture (default: 1; light 0)", panel="ghmfc"
    )
    entity: Literal["cls", "linear"] | None = knob(
        None, "the entity's vector: BERT's [CLS], or a linear layer of it (default: cls; light linear)", panel="ghmfc"
    )
    ranking_loss: Literal["triplet", "margin"] | None = knob(
        None,
        "triplet: gold against each other candidate; margin: as drin's (default: triplet; light margin)",
        panel="ghmfc",
    )
    width: int = knob(512, "D, width of the stacks (GHMFC)", panel="ghmfc")
    tokens: int = knob(32, "T, tokens read of a sentence, [CLS] included (GHMFC)", panel="mel_hi, ghmfc")
    attention_layers: int = knob(2, "of each stack (GHMFC)", panel="ghmfc")
    attention_heads: int = knob(8, "of each attention (GHMFC)", panel="ghmfc")
    dropout: float = knob(0.4, "in training (GHMFC)", panel="ghmfc")
    triplet_margin: float = knob(0.5, "of gold over each other candidate (GHMFC)", panel="ghmfc")
    margin: float = knob(0.25, MARGIN, panel="ghmfc")
    contrastive_temperature: float = knob(0.6, "of the loss between text and picture (GHMFC)", panel="ghmfc")
    mention_token: bool = knob(
        False,
        "the mention's own vector is one more token: GHMFC reads the sentence alone, so that all mentions of one "
        "sentence are one vector",
        panel="ghmfc",
    )

    def __post_init__(self) -> None:
        check_positive(self, "width", "tokens", "attention_layers", "attention_heads")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout is {self.dropout:g}; it must be 0 or more, and less than 1")
        if self.contrastive is not None and not 0 <= self.contrastive < float("inf"):
            raise ConfigError(f"--contrastive is {self.contrastive:g}; it must be 0 or more")
        if not 0 < self.contrastive_temperature < float("inf"):
            raise ConfigError(f"--contrastive-temperature is {self.contrastive_temperature:g}; it must be positive")
        check_margin(self, "margin")
        check_margin(self, "triplet_margin")

    @property
    def resolved(self) -> "GhmfcConfig":
        """The config with every switch decided."""
        chosen = {name: value for name, value in GHMFC[self.ghmfc].items() if getattr(self, name) is None}
        return replace(self, **chosen)

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of schema.CHOICES that the switches ask for."""
        return ("mention.bert.span",) if self.mention_token else ()
