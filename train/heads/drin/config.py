"""Options of DRIN; where the paper is silent, the choice is a switch.  No torch here."""

from dataclasses import dataclass
from typing import Literal

from cache.edges import EDGES
from common.options import knob
from train.checks import MARGIN, check_at_least_one, check_edges, check_not_negative
from train.heads.head_config import HeadConfig

Activation = Literal["gelu", "relu", "tanh", "sigmoid", "identity"]


@dataclass(frozen=True)
class DrinConfig(HeadConfig):
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
    reduction: Literal["mean", "sum"] = knob("mean", "how Eq. 17 is reduced over the mentions of a batch", panel="drin")

    def __post_init__(self) -> None:
        check_at_least_one(self, "layers", "width")
        check_not_negative(self, "margin")
        check_edges(self.edges)
