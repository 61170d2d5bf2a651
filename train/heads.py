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


@dataclass(frozen=True)
class _Matching:
    """What dwe and dwe_authors share; the width is the cache's."""

    clip_width: int = 512
    entity_text: Literal["text", "description"] = knob(
        "text", "text of an entity that is matched; description: the longer one (DWE+)", panel="dwe, dwe_authors"
    )
    persons_only: bool = knob(False, "read only objects that are persons", panel="dwe")
    heads: int = knob(8, "of attention (DWE's code)", panel="dwe, dwe_authors")
    dropout: float = knob(0.4, "share of numbers dropped in training (DWE's code)", panel="dwe, dwe_authors")
    margin: float = knob(0.5, "of the triplet loss (DWE's code)", panel="dwe, dwe_authors")
    alignment_weight: float = knob(0.1, "lambda, of the alignment loss; 0: without it", panel="dwe")
    alignment_temperature: float = knob(
        0.07, "of the alignment loss (CLIP); dwe_authors learns it, from this one on", panel="dwe, dwe_authors"
    )

    def __post_init__(self) -> None:
        _check_margin(self.margin)
        if self.heads < 1:
            raise ConfigError(f"--heads {self.heads} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout is {self.dropout:g}; it must be 0 or more and less than 1")
        if not 0 <= self.alignment_weight < float("inf"):
            raise ConfigError(f"--alignment-weight is {self.alignment_weight:g}; it must be 0 or more")
        if not 0 < self.alignment_temperature < float("inf"):
            raise ConfigError(f"--alignment-temperature is {self.alignment_temperature:g}; it must be positive")

    @property
    def more(self) -> tuple[str, ...]:
        """The columns that its switches ask for."""
        return ("entity.clip.description",) if self.entity_text == "description" else ()


@dataclass(frozen=True)
class DweConfig(_Matching):
    """DWE as in the paper's summary; where that is silent, the choice is a switch."""

    refine: bool = knob(True, "let objects attend to attributes of faces and scene first", panel="dwe")
    negative: Literal["hardest", "sampled"] = knob("hardest", "candidate that gold is compared with", panel="dwe")


@dataclass(frozen=True)
class DweAuthorsConfig(_Matching):
    """DWE as in its released code; where the paper has something else, that is a switch."""

    persons_only: bool = knob(True, "read only objects that are persons", panel="dwe_authors")
    alignment_weight: float = knob(1.0, "lambda, of the alignment loss; 0: without it", panel="dwe_authors")
    ranking_weight: float = knob(10.0, "of the ranking loss beside it", panel="dwe_authors")
    fusion: Literal["sum", "gate", "concat"] = knob(
        "sum", "of mention and units; gate: the paper's, concat: the code's for WikiDiverse", panel="dwe_authors"
    )
    shared_attention: bool = knob(True, "one attention for both units; the paper has two", panel="dwe_authors")
    mask_padding: bool = knob(False, "attend to no row without an object", panel="dwe_authors")
    loss: Literal["npair", "triplet"] = knob("npair", "triplet: the paper's", panel="dwe_authors")
    hard_negatives: float = knob(
        0.95, "share of negatives with the likest name; the others are random", panel="dwe_authors"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ranking_weight < float("inf"):
            raise ConfigError(f"--ranking-weight is {self.ranking_weight:g}; it must be positive")
        if not 0 <= self.hard_negatives <= 1:
            raise ConfigError(f"--hard-negatives is {self.hard_negatives:g}; it must be from 0 to 1")


def _check_margin(margin: float) -> None:
    if not 0 <= margin < float("inf"):
        raise ConfigError(f"--margin is {margin:g}; it must be 0 or more")


HEAD_CONFIGS = {
    "drin": DrinConfig,
    "bert": JointConfig,
    "jmel": JointConfig,
    "clip_linear": JointConfig,
    "dwe": DweConfig,
    "dwe_authors": DweAuthorsConfig,
}
KINDS = tuple(dict.fromkeys(HEAD_CONFIGS.values()))
