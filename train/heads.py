"""Every head's own knobs; where a paper is silent, the choice is a switch.  No torch here.

`tokens` bounds the sequences that a head reads, `characters` the strings that it reads as bytes; `more` names the
columns of schema.CHOICES that its switches ask for.
"""

from dataclasses import dataclass
from typing import Literal

from cache.schema import EDGES
from common.errors import ConfigError
from common.options import knob
from train.baseline_heads import DzmnedConfig, JointConfig, MelHiConfig
from train.checks import MARGIN, check_margin, check_positive
from train.ghmfc_config import GhmfcConfig

Activation = Literal["gelu", "relu", "tanh", "sigmoid", "identity"]


@dataclass(frozen=True)
class DrinConfig:
    """DRIN as in the paper; widths are the cache's.  Where the paper is silent, the choice is a switch."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, hidden width (DRIN 4.4)", panel="drin")
    layers: int = knob(2, "L, graph convolutions (DRIN 4.4)", panel="drin")
    edges: tuple[str, ...] = knob(EDGES, f"relations kept (DRIN Table 3), of {','.join(EDGES)}", panel="drin")
    edge_from: Literal["next", "current"] = knob(
        "next", "vertices that Eq. 13 reads (drin_authors: current)", panel="drin"
    )
    edge_residual: Literal["outside", "inside"] = knob(
        "outside", "where Eq. 13 adds A (drin_authors: inside)", panel="drin"
    )
    tied: bool = knob(False, "one matrix for W_1 and W_2", panel="drin")
    static: bool = knob(False, "edges stay as they were extracted: no Eq. 13 (DRIN Table 3)", panel="drin")
    vertex_activation: Activation = knob("gelu", "sigma of Eq. 12", panel="drin")
    edge_activation: Activation = knob("sigmoid", "sigma of Eq. 13", panel="drin")
    margin: float = knob(0.25, MARGIN, panel="drin")
    negatives: Literal["batch", "own"] = knob(
        "own", "S- of Eq. 17 is the mean over the mention's own candidates, or over all of the batch", panel="drin"
    )
    reduction: Literal["mean", "sum"] = knob("mean", "of Eq. 17 over the mentions of a batch", panel="drin")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        check_margin(self)
        _check_edges(self.edges)


@dataclass(frozen=True)
class DrinAuthorsConfig:
    """DRIN as its authors' code computes it; each deviation from the paper is a switch.  The leak is off by default."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, hidden width", panel="drin_authors")
    layers: int = knob(2, "L, graph convolutions", panel="drin_authors")
    edges: tuple[str, ...] = knob(EDGES, "relations kept", panel="drin_authors")
    static: bool = knob(False, "edges stay as they were extracted", panel="drin_authors")
    edge_from: Literal["next", "current"] = knob("current", "vertices that Eq. 13 reads", panel="drin_authors")
    edge_residual: Literal["outside", "inside"] = knob("inside", "where Eq. 13 adds A", panel="drin_authors")
    edge_directions: Literal["one", "both"] = knob(
        "one", "one weight per pair (mention to entity), or both that Eq. 13 has to the letter", panel="drin_authors"
    )
    tied: bool = knob(False, "one matrix for W_u and W_v", panel="drin_authors")
    affinity: Literal["mean", "sum"] = knob("mean", "over D of Eq. 13's product (paper: sum)", panel="drin_authors")
    vertex_norm: bool = knob(True, "LayerNorm before sigma of Eq. 12 (paper: none)", panel="drin_authors")
    vertex_residual: Literal["inside", "outside"] = knob(
        "inside", "where Eq. 12 adds H: inside W_h, or outside sigma as in the paper", panel="drin_authors"
    )
    aggregation: Literal["mean", "sum"] = knob(
        "mean", "over the candidates, of what a mention vertex receives (paper: sum)", panel="drin_authors"
    )
    biases: bool = knob(True, "linear layers have them (paper: none)", panel="drin_authors")
    text_to_text: Literal["span", "cached"] = knob(
        "span",
        "that edge: cosine of the span with the entity's [CLS] (with pooler vectors: with those), or the cache's",
        panel="drin_authors",
    )
    entity_vector: Literal["mean", "text", "pooler"] = knob(
        "mean",
        "of an entity's text: mean of its tokens (theirs for WikiMEL), pooler output (WikiDiverse), [CLS] (paper)",
        panel="drin_authors",
    )
    ranking_loss: Literal["candidates", "margin"] = knob(
        "candidates",
        "mean over candidates, gold among them, of max(S_j - S+ + margin, 0), with S+ = 0 where gold is not retrieved; "
        "margin: the paper's, as drin's",
        panel="drin_authors",
    )
    negatives: Literal["batch", "own"] = knob(
        "batch",
        "candidates: S+ is compared with those of all mentions of the batch, or with the mention's own",
        panel="drin_authors",
    )
    margin: float = knob(0.25, "of gold over each candidate, or over their mean (DRIN 4.4)", panel="drin_authors")
    leak_gold: bool = knob(
        False,
        "LEAKS GOLD: as theirs, gold is one more candidate of the graph, in tests too, retrieved or not",
        panel="drin_authors",
    )
    leak_control: bool = knob(False, "the same with a copy of a random candidate: no leak", panel="drin_authors")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        check_margin(self)
        _check_edges(self.edges)
        if self.leak_gold and self.leak_control:
            raise ConfigError("--leak-gold and --leak-control exclude each other: choose one")

    @property
    def vertex_column(self) -> str:
        """The entity vectors that become vertices."""
        return f"entity.bert.{self.entity_vector}"

    @property
    def edge_column(self) -> str:
        """The entity vectors that text_to_text compares with the span: theirs for WikiMEL are not the vertices'."""
        return "entity.bert.pooler" if self.entity_vector == "pooler" else "entity.bert.text"

    @property
    def more(self) -> tuple[str, ...]:
        """The columns that the switches ask for."""
        edge = (self.edge_column,) if self.text_to_text == "span" else ()
        gold = ("mention.ids.gold",) if self.leak_gold else ()
        return tuple(dict.fromkeys((self.vertex_column, *edge, *gold)))

    @property
    def learns_without_gold(self) -> bool:
        """Whether mentions whose gold was not retrieved are trained on, too."""
        return self.ranking_loss == "candidates"

    @property
    def label(self) -> str:
        """What stands beside every number of such a run."""
        return "leaks gold" if self.leak_gold else "leak control" if self.leak_control else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of results must know."""
        if not self.leak_gold:
            return ()
        return (
            "drin_authors leaks gold (--leak-gold): gold was in the graph once more, in tests too, as in the "
            "authors' code. These numbers measure the leak, not the method",
        )


@dataclass(frozen=True)
class _Matching:
    """What dwe and dwe_authors share; the width is the cache's."""

    clip_width: int = 512
    entity_text: Literal["text", "description"] = knob(
        "text", "text of an entity that is matched; description: the longer one (DWE+)", panel="dwe, dwe_authors"
    )
    persons_only: bool = knob(False, "read only objects that are persons", panel="dwe")
    attention_heads: int = knob(8, "of each attention (DWE's code)", panel="dwe, dwe_authors")
    dropout: float = knob(0.4, "share of numbers dropped in training (DWE's code)", panel="dwe, dwe_authors")
    triplet_margin: float = knob(0.5, "of gold over one other candidate (DWE's code)", panel="dwe, dwe_authors")
    alignment_weight: float = knob(0.1, "lambda, of the alignment loss; 0: without it", panel="dwe")
    alignment_temperature: float = knob(
        0.07, "of the alignment loss (CLIP); dwe_authors learns it, from this one on", panel="dwe, dwe_authors"
    )

    def __post_init__(self) -> None:
        check_margin(self, "triplet_margin")
        check_positive(self, "attention_heads")
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
    ranking_loss: Literal["npair", "triplet"] = knob(
        "npair", "gold against one other candidate; triplet: the paper's", panel="dwe_authors"
    )
    negatives: Literal["batch", "own"] = knob(
        "batch",
        "npair: those drawn for all mentions of the batch, or the one drawn for the mention alone",
        panel="dwe_authors",
    )
    hard_negatives: float = knob(
        0.95, "share of negatives with the likest name; the others are random", panel="dwe_authors"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ranking_weight < float("inf"):
            raise ConfigError(f"--ranking-weight is {self.ranking_weight:g}; it must be positive")
        if not 0 <= self.hard_negatives <= 1:
            raise ConfigError(f"--hard-negatives is {self.hard_negatives:g}; it must be from 0 to 1")


HEAD_CONFIGS = {
    "drin": DrinConfig,
    "bert": JointConfig,
    "jmel": JointConfig,
    "clip_linear": JointConfig,
    "dwe": DweConfig,
    "dwe_authors": DweAuthorsConfig,
    "dzmned": DzmnedConfig,
    "mel_hi": MelHiConfig,
    "drin_authors": DrinAuthorsConfig,
    "ghmfc": GhmfcConfig,
}
KINDS = tuple(dict.fromkeys(HEAD_CONFIGS.values()))


def _check_edges(edges: tuple[str, ...]) -> None:
    if not edges or not set(edges) <= set(EDGES):
        raise ConfigError(f"--edges {','.join(edges) or '(none)'}: choose from {', '.join(EDGES)}")
