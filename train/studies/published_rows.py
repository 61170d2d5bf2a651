"""Where published results stand, and those of systems that are no head; a head's own rows are in its room.

What a source does not state is "unknown", never guessed. KGMEL (2504.15135), whose released code selects its epoch on
test, and other systems whose tables could not be read have no row.
"""

from dataclasses import dataclass, field
from typing import Literal

from train.heads.entry import Row

Protocol = Literal["A", "B", "C", "D"]
WIDE, HITS = ("top1", "top5", "top10", "top20"), ("top1", "top3", "top5", "mrr")
DRIN_METRICS = {"wikimel": WIDE, "wikidiverse": ("top1", "top3", "top5")}
THREE = ("wikimel", "richpedia", "wikidiverse")


@dataclass(frozen=True)
class Source:
    """Where numbers stand and how they came about.  `metrics` by dataset; `own` is what no protocol of ours does.

    `selected`: the split that picked the epoch; `ties`: who wins among equal scores, "sort order" being whatever
    argsort does. `split` names the release's division by dataset, `tested` its number of test mentions where known.
    """

    where: str
    protocol: Protocol
    metrics: dict[str, tuple[str, ...]]
    selected: Literal["valid", "test", "unknown"] = "unknown"
    ties: str = "unknown"
    split: dict[str, str] = field(default_factory=dict)
    tested: dict[str, int] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)


GHMFC_SPLIT = {"wikimel": "GHMFC's", "richpedia": "GHMFC's", "wikidiverse": "the release's"}
MIMIC_SPLIT = dict.fromkeys(THREE, "MIMIC's own")
# of DRIN's code: its 51.1 on WikiDiverse is 41.9 of all test mentions
DRIN_OWN = {"wikimel": "gold in the graph", "wikidiverse": "gold in the graph, divided by recall"}
DRIN = {
    "protocol": "A",
    "metrics": DRIN_METRICS,
    "ties": "optimistic",
    "split": GHMFC_SPLIT,
    "tested": {"wikidiverse": 1_570},
    "own": DRIN_OWN,
}
MIMIC = {
    "protocol": "C",
    "metrics": dict.fromkeys(THREE, HITS),
    "selected": "valid",
    "ties": "sort order",
    "split": MIMIC_SPLIT,
}
SOURCES = {
    "a": Source("DRIN Table 2", **DRIN),
    "b": Source(
        "DWE's table as the README of Javkonline/UniMEL copies it",
        "B",
        dict.fromkeys(THREE, WIDE),
        split=GHMFC_SPLIT,
    ),
    "c": Source("DRIN Tables 3 and 4", **DRIN),
    "d": Source("readme of pengfei-luo/MIMIC", **MIMIC | {"selected": "unknown", "ties": "unknown"}),
    "e": Source("logs of zhiweihu1103/MEL-M3EL", **MIMIC),
    "f": Source("logs of zhiweihu1103/MEL-MMoE", **MIMIC),
    "g": Source("OT-MEL (2406.01934), second hand", **MIMIC | {"metrics": dict.fromkeys(THREE, HITS[:1])}),
    "h": Source("README of Javkonline/UniMEL", "B", dict.fromkeys(THREE, WIDE), ties="one sampled answer"),
    "i": Source("README of RCMEL, others in FissFuse's setting", "D", dict.fromkeys(THREE[::2], ("top1", "mrr"))),
    "j": Source(
        "FAST-MEL (2606.11749), a third party's repaired run, second hand",
        "C",
        {"wikimel": HITS},
        split=MIMIC_SPLIT,
    ),
}


def _three(*values: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Return values of WikiMEL, Richpedia and WikiDiverse, in this order, by dataset."""
    return dict(zip(THREE, values, strict=True))


def _two(*values: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Return values of WikiMEL and WikiDiverse by dataset."""
    return dict(zip(THREE[::2], values, strict=True))


OF_MIMIC = {"selected": "valid", "ties": "sort order"}
# of systems that are no head of melcache
SYSTEMS = (
    # B: gold put into the lists; DWE's table
    Row("UniMEL", "h", "LLM", _three((94.1, 97.2, 98.4, 98.9), (94.8, 97.9, 98.3, 98.8), (92.9, 97.0, 99.5, 99.8))),
    # C: all entities
    Row("MIMIC", "d", "tuned",
        _three((87.98, 95.07, 96.37, 91.82), (81.02, 91.77, 94.38, 86.95), (63.51, 81.04, 86.43, 73.44)), **OF_MIMIC),
    Row("M3EL", "e", "tuned",
        _three((88.84, 95.20, 96.71, 92.30), (82.82, 92.73, 95.34, 88.26), (74.06, 86.57, 90.04, 81.29))),
    Row("MMoE", "f", "tuned",
        _three((90.77, 96.27, 97.41, 93.75), (85.51, 93.43, 95.31, 89.86), (77.57, 89.12, 92.49, 84.23))),
    Row("OT-MEL", "g", "tuned", _three((88.97,), (83.30,), (66.07,))),
    Row("FAST-MEL", "j", "tuned", {"wikimel": (88.95, 95.65, 97.16, 92.56)}),
    # D: lists that hold gold
    Row("MIMIC", "i", "tuned", _two((81.62, 88.05), (67.90, 80.57))),
    Row("GPT-3.5", "i", "LLM", _two((73.80,), (72.70,))),
    Row("GEMEL", "i", "LLM", _two((82.60,), (86.30,))),
    Row("FissFuse", "i", "LLM", _two((87.89, 92.02), (83.29, 89.81))),
    Row("RCMEL", "i", "LLM", _two((90.63, 93.16), (91.17, 92.06))),
)  # fmt: skip
