"""Every head's own knobs; where a paper is silent, the choice is a switch.  No torch here.

`tokens` bounds the sequences that a head reads; `more` names the columns of schema.CHOICES that its switches ask for.
"""

from dataclasses import dataclass
from typing import Literal

from cache.schema import EDGES
from common.errors import ConfigError
from common.options import knob

Activation = Literal["gelu", "relu", "tanh", "sigmoid", "identity"]


@dataclass(frozen=True)
class DrinConfig:
    """DRIN as in the paper; widths are the cache's.  Where the paper is silent, the choice is a switch."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, hidden width (DRIN 4.4)", panel="drin")
    layers: int = knob(2, "L, graph convolutions (DRIN 4.4)", panel="drin")
    edges: tuple[str, ...] = knob(EDGES, f"relations kept (DRIN Table 3), of {','.join(EDGES)}", panel="drin")
    edge_from: Literal["next", "current"] = knob("next", "vertices that Eq. 13 reads", panel="drin")
    edge_residual: Literal["outside", "inside"] = knob("outside", "where Eq. 13 adds A", panel="drin")
    tied: bool = knob(False, "one matrix for W_1 and W_2", panel="drin")
    static: bool = knob(False, "edges stay as they were extracted: no Eq. 13 (DRIN Table 3)", panel="drin")
    vertex_activation: Activation = knob("gelu", "sigma of Eq. 12", panel="drin")
    edge_activation: Activation = knob("sigmoid", "sigma of Eq. 13", panel="drin")
    margin: float = knob(0.25, "of the ranking loss (DRIN 4.4)", panel="drin")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        _check_margin(self.margin)
        unknown = sorted(set(self.edges) - set(EDGES))
        if unknown or not self.edges:
            raise ConfigError(f"--edges {','.join(self.edges) or '(none)'}: choose from {', '.join(EDGES)}")


@dataclass(frozen=True)
class JointConfig:
    """bert, jmel and clip_linear; widths are the cache's."""

    head: str = "bert"
    text_width: int = 768
    image_width: int = 2048
    clip_width: int = 512
    width: int = knob(768, "D, width of a modality in the joint space", panel="bert, jmel, clip_linear")
    objective: Literal["auto", "margin", "contrastive"] = knob(
        "auto", "loss; auto: contrastive for jmel, else margin", panel="bert, jmel, clip_linear"
    )
    margin: float = knob(0.25, "of the ranking loss (DRIN 4.4)", panel="bert, jmel, clip_linear")
    temperature: float = knob(0.1, "of the contrastive loss", panel="bert, jmel, clip_linear")

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"--width {self.width} must be at least 1")
        _check_margin(self.margin)
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"--temperature is {self.temperature:g}; it must be positive")

    def width_of(self, column: str) -> int:
        """Return the width of a feature column."""
        part = column.split(".")[1]
        return {"bert": self.text_width, "resnet": self.image_width, "clip": self.clip_width}[part]


def _check_margin(margin: float) -> None:
    if not 0 <= margin < float("inf"):
        raise ConfigError(f"--margin is {margin:g}; it must be 0 or more")


HEAD_CONFIGS = {"drin": DrinConfig, "bert": JointConfig, "jmel": JointConfig, "clip_linear": JointConfig}
KINDS = tuple(dict.fromkeys(HEAD_CONFIGS.values()))
