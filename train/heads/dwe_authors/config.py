"""Options of dwe_authors.  No torch here."""

from dataclasses import dataclass
from typing import Literal

from common.options import knob
from train.checks import check, check_positive
from train.heads.dwe.config import MatchingConfig


@dataclass(frozen=True)
class DweAuthorsConfig(MatchingConfig):
    """DWE as in its released code; where the paper has something else, that is a switch."""

    persons_only: bool = knob(True, "read only objects that are persons", panel="dwe_authors")
    alignment_weight: float = knob(1.0, "lambda, weight of the alignment loss; 0: without it", panel="dwe_authors")
    ranking_weight: float = knob(10.0, "weight of the ranking loss beside it", panel="dwe_authors")
    fusion: Literal["sum", "gate", "concat"] = knob(
        "sum",
        "how mention and units are joined; gate: the paper's, concat: the code's for WikiDiverse",
        panel="dwe_authors",
    )
    shared_attention: bool = knob(True, "one attention for both units; the paper has two", panel="dwe_authors")
    mask_padding: bool = knob(False, "do not attend to rows without an object", panel="dwe_authors")
    ranking_loss: Literal["npair", "triplet"] = knob(
        "npair", "gold against one other candidate; triplet: the paper's", panel="dwe_authors"
    )
    negatives: Literal["batch", "own"] = knob(
        "batch",
        "npair: those drawn for all mentions of the batch, or the one drawn for the mention alone",
        panel="dwe_authors",
    )
    hard_negatives: float = knob(
        0.95, "share of negatives that have the most similar names; the others are random", panel="dwe_authors"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "ranking_weight")
        check(self, ("hard_negatives",), "from 0 to 1", lambda value: 0 <= value <= 1)
