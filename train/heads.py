"""Every head's own knobs; where a paper is silent, the choice is a switch.  No torch here.

`tokens` bounds the sequences that a head reads, `characters` the strings that it reads as bytes; `more` names the
columns of schema.CHOICES that its switches ask for.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from cache.schema import EDGES
from common.errors import ConfigError
from common.options import knob

MARGIN = "of gold over the mean of the other candidates (DRIN 4.4)"
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

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        _check_margin(self)
        _check_edges(self.edges)


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
        _check_margin(self)
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
    attention_heads: int = knob(8, "of each attention (DWE's code)", panel="dwe, dwe_authors")
    dropout: float = knob(0.4, "share of numbers dropped in training (DWE's code)", panel="dwe, dwe_authors")
    triplet_margin: float = knob(0.5, "of gold over one other candidate (DWE's code)", panel="dwe, dwe_authors")
    alignment_weight: float = knob(0.1, "lambda, of the alignment loss; 0: without it", panel="dwe")
    alignment_temperature: float = knob(
        0.07, "of the alignment loss (CLIP); dwe_authors learns it, from this one on", panel="dwe, dwe_authors"
    )

    def __post_init__(self) -> None:
        _check_margin(self, "triplet_margin")
        _check_positive(self, "attention_heads")
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
    hard_negatives: float = knob(
        0.95, "share of negatives with the likest name; the others are random", panel="dwe_authors"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ranking_weight < float("inf"):
            raise ConfigError(f"--ranking-weight is {self.ranking_weight:g}; it must be positive")
        if not 0 <= self.hard_negatives <= 1:
            raise ConfigError(f"--hard-negatives is {self.hard_negatives:g}; it must be from 0 to 1")


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
        _check_positive(self, "width", "characters", "character_width")
        _check_margin(self)


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
        _check_positive(self, "width", "tokens")
        if self.lstm_width < 0:
            raise ConfigError(f"--lstm-width is {self.lstm_width}; it must be 0 (as wide as the input) or more")
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"--threshold is {self.threshold:g}; cosines lie between -1 and 1")
        _check_margin(self)


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
        _check_positive(self, "width", "tokens", "attention_layers", "attention_heads")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout is {self.dropout:g}; it must be 0 or more, and less than 1")
        if self.contrastive is not None and not 0 <= self.contrastive < float("inf"):
            raise ConfigError(f"--contrastive is {self.contrastive:g}; it must be 0 or more")
        if not 0 < self.contrastive_temperature < float("inf"):
            raise ConfigError(f"--contrastive-temperature is {self.contrastive_temperature:g}; it must be positive")
        _check_margin(self, "margin")
        _check_margin(self, "triplet_margin")

    @property
    def resolved(self) -> "GhmfcConfig":
        """The config with every switch decided."""
        chosen = {name: value for name, value in GHMFC[self.ghmfc].items() if getattr(self, name) is None}
        return replace(self, **chosen)

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of schema.CHOICES that the switches ask for."""
        return ("mention.bert.span",) if self.mention_token else ()


def _check_margin(config: Any, name: str = "margin") -> None:
    if not 0 <= getattr(config, name) < float("inf"):
        raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name):g}; it must be 0 or more")


def _check_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be at least 1")


def _check_edges(edges: tuple[str, ...]) -> None:
    if not edges or not set(edges) <= set(EDGES):
        raise ConfigError(f"--edges {','.join(edges) or '(none)'}: choose from {', '.join(EDGES)}")


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
        "mean over all candidates of max(S_j - S+ + margin, 0), with S+ = 0 where gold is not retrieved; margin: the "
        "paper's, as drin's",
        panel="drin_authors",
    )
    margin: float = knob(0.25, "of gold over each candidate, or over their mean (DRIN 4.4)", panel="drin_authors")
    leak_gold: bool = knob(
        False,
        "LEAKS GOLD: as theirs, a copy of gold is one more candidate of the graph, in tests too",
        panel="drin_authors",
    )
    leak_control: bool = knob(False, "the same with a copy of a random candidate: no leak", panel="drin_authors")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        _check_margin(self)
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
        """The columns of schema.CHOICES that the switches ask for."""
        edge = (self.edge_column,) if self.text_to_text == "span" else ()
        return tuple(dict.fromkeys((self.vertex_column, *edge)))

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
            "drin_authors leaks gold (--leak-gold): a copy of gold was in the graph, in tests too, as in the "
            "authors' code. These numbers measure the leak, not the method",
        )


HEAD_CONFIGS = {
    "drin": DrinConfig,
    "bert": JointConfig,
    "jmel": JointConfig,
    "clip_linear": JointConfig,
    "dwe": DweConfig,
    "dwe_authors": DweAuthorsConfig,
    "dzmned": DzmnedConfig,
    "mel_hi": MelHiConfig,
    "ghmfc": GhmfcConfig,
    "drin_authors": DrinAuthorsConfig,
}
KINDS = tuple(dict.fromkeys(HEAD_CONFIGS.values()))
