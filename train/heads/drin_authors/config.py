"""Options of drin_authors.  No torch here."""

from dataclasses import dataclass
from typing import Literal

from cache.edges import EDGES
from common.errors import ConfigError
from common.options import knob
from train.checks import check_at_least_one, check_edges, check_not_negative
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class DrinAuthorsConfig(HeadConfig):
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
    entity_vector: Literal["mean", "sentence", "pooler"] = knob(
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
    margin: float = knob(
        0.25, "margin of gold's score over each candidate's, or over their mean (DRIN 4.4)", panel="drin_authors"
    )
    leak_gold: bool = knob(
        False,
        "LEAKS GOLD: as theirs, gold is one more candidate of the graph, in tests too, retrieved or not",
        panel="drin_authors",
    )
    leak_control: bool = knob(False, "the same with a copy of a random candidate: no leak", panel="drin_authors")

    def __post_init__(self) -> None:
        check_at_least_one(self, "layers", "width")
        check_not_negative(self, "margin")
        check_edges(self.edges)
        if self.leak_gold and self.leak_control:
            raise ConfigError("--leak-gold and --leak-control exclude each other: choose one")

    @property
    def vertex_column(self) -> str:
        """The entity vectors that become vertices."""
        return f"entity.text.{self.entity_vector}"

    @property
    def edge_column(self) -> str:
        """The entity vectors that text_to_text compares with the span: theirs for WikiMEL are not the vertices'."""
        return "entity.text.pooler" if self.entity_vector == "pooler" else "entity.text.sentence"

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
