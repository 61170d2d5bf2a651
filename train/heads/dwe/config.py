"""Options of DWE, and those that dwe_authors shares.  No torch here."""

from dataclasses import dataclass
from typing import Literal

from common.options import knob
from train.checks import check, check_at_least_one, check_not_negative, check_positive
from train.heads.head_config import HeadConfig


@dataclass(frozen=True)
class MatchingConfig(HeadConfig):
    """What dwe and dwe_authors share; the width is the cache's."""

    joint_width: int = 512
    entity_text: Literal["text", "description"] = knob(
        "text", "text of an entity that is matched; description: the longer one (DWE+)", panel="dwe, dwe_authors"
    )
    persons_only: bool = knob(False, "read only objects that are persons", panel="dwe")
    attention_heads: int = knob(8, "attention heads of each layer (DWE's code)", panel="dwe, dwe_authors")
    dropout: float = knob(0.4, "dropout rate in training (DWE's code)", panel="dwe, dwe_authors")
    triplet_margin: float = knob(
        0.5, "margin of gold's score over one other candidate's (DWE's code)", panel="dwe, dwe_authors"
    )
    alignment_weight: float = knob(0.1, "lambda, weight of the alignment loss; 0: without it", panel="dwe")
    alignment_temperature: float = knob(
        0.07,
        "temperature of the alignment loss (CLIP); dwe_authors learns it, beginning here",
        panel="dwe, dwe_authors",
    )

    def __post_init__(self) -> None:
        check_not_negative(self, "triplet_margin")
        check_at_least_one(self, "attention_heads")
        check(self, ("dropout",), "0 or more and less than 1", lambda value: 0 <= value < 1)
        check_not_negative(self, "alignment_weight")
        check_positive(self, "alignment_temperature")

    @property
    def more(self) -> tuple[str, ...]:
        """The columns that its switches ask for."""
        return ("entity.joint.description",) if self.entity_text == "description" else ()

    @property
    def system(self) -> str:
        """With Wikipedia's texts it is DWE+."""
        return "DWE+" if self.entity_text == "description" else "DWE"


@dataclass(frozen=True)
class DweConfig(MatchingConfig):
    """DWE as in the paper's summary; where that is silent, the choice is a switch."""

    refine: bool = knob(True, "let objects attend to attributes of faces and scene first", panel="dwe")
    negative: Literal["hardest", "sampled"] = knob("hardest", "candidate that gold is compared with", panel="dwe")
