"""Published results in percent, as they stand in papers, readmes and logs; `published` sets them beside ours.

What a source does not state is "unknown", never guessed. KGMEL (2504.15135), whose released code selects its epoch on
test, and other systems whose tables could not be read have no row.
"""

from dataclasses import dataclass, field
from typing import Literal

Protocol = Literal["A", "B", "C", "D"]
Trained = Literal["frozen", "tuned", "LLM", "unknown"]
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


@dataclass(frozen=True)
class Row:
    """A system's numbers by dataset, in the order of its source's metrics, and their deviations over runs.

    `head` is ours of that name, "" if there is none. `selected` and `ties` are the row's own where its code says them
    and the source's table is of several codes.
    """

    system: str
    head: str
    source: str
    trained: Trained
    values: dict[str, tuple[float, ...]]
    deviations: dict[str, tuple[float, ...]] = field(default_factory=dict)
    selected: str | None = None
    ties: str | None = None


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


OF_DWE = {"selected": "valid", "ties": "optimistic"}  # its code reports the best epoch on valid, too
OF_MIMIC = {"selected": "valid", "ties": "sort order"}
ROWS = (
    # A: the mention's list; DRIN Table 2. Rows without WikiDiverse are copies of GHMFC's table
    Row("BERT", "bert", "a", "unknown", _two((31.7, 48.8, 57.8, 70.3), (45.5, 75.7, 89.0))),
    Row("JMEL", "jmel", "a", "unknown", {"wikimel": (31.3, 49.4, 57.9, 64.8)}),
    Row("DZMNED", "dzmned", "a", "unknown", {"wikimel": (34.7, 53.9, 58.1, 70.1)}),
    Row("MEL-HI", "mel_hi", "a", "unknown", _two((38.6, 55.1, 65.2, 75.7), (45.7, 76.5, 88.6))),
    Row("GHMFC", "ghmfc", "a", "unknown", _two((43.6, 64.0, 74.4, 85.8), (46.0, 77.5, 88.9))),
    Row(
        "DRIN",
        "drin",
        "a",
        "frozen",
        _two((65.5, 91.3, 95.8, 97.7), (51.1, 77.9, 89.3)),
        _two((0.81, 0.52, 0.22, 0.14), (0.74, 0.65, 0.83)),
    ),
    # B: gold put into the lists; DWE's table
    Row("BERT", "bert", "b", "unknown",
        _three((31.7, 48.8, 57.8, 70.3), (31.6, 42.0, 47.6, 57.3), (22.2, 53.8, 69.8, 82.8))),
    Row("JMEL", "jmel", "b", "unknown",
        _three((31.3, 49.4, 57.9, 64.8), (29.6, 42.3, 46.6, 54.1), (21.9, 54.5, 69.9, 76.3))),
    Row("DZMNED", "dzmned", "b", "unknown",
        {"wikimel": (30.9, 50.7, 56.9, 65.1), "richpedia": (29.5, 41.6, 45.8, 55.2)}),
    Row("MEL-HI", "mel_hi", "b", "unknown",
        _three((38.7, 55.1, 65.2, 75.7), (34.9, 43.1, 50.6, 58.4), (27.1, 60.7, 78.7, 89.2))),
    Row("GHMFC", "ghmfc", "b", "unknown", {"wikimel": (43.6, 64.0, 74.4, 85.8), "richpedia": (38.7, 50.9, 58.5, 66.7)}),
    Row("CLIP", "clip", "b", "unknown",
        _three((36.1, 81.3, 92.8, 98.3), (60.4, 96.1, 98.3, 99.2), (42.4, 80.5, 91.7, 96.6))),
    Row("DWE", "dwe", "b", "frozen",
        _three((44.7, 65.9, 80.8, 93.2), (67.6, 97.1, 98.6, 99.5), (47.5, 81.3, 92.0, 96.9)), **OF_DWE),
    Row("DWE+", "dwe+", "b", "frozen",
        _three((72.8, 97.5, 98.9, 99.7), (72.5, 97.3, 98.8, 99.6), (51.2, 91.0, 96.3, 98.9)), **OF_DWE),
    Row("UniMEL", "", "h", "LLM", _three((94.1, 97.2, 98.4, 98.9), (94.8, 97.9, 98.3, 98.8), (92.9, 97.0, 99.5, 99.8))),
    # C: all entities. CLIP's and GHMFC's accuracy grows with the share of train in MIMIC's tables: they were trained
    Row("BERT", "bert", "d", "unknown",
        _three((74.82, 86.79, 90.47, 81.78), (59.55, 81.12, 87.16, 71.67), (55.77, 75.73, 83.11, 67.38))),
    Row("JMEL", "jmel", "d", "unknown",
        _three((64.65, 79.99, 84.34, 73.39), (48.82, 66.77, 73.99, 60.06), (37.38, 54.23, 61.00, 48.19))),
    Row("DZMNED", "dzmned", "d", "unknown",
        _three((78.82, 90.02, 92.62, 84.97), (68.16, 82.94, 87.33, 76.63), (56.90, 75.34, 81.41, 67.59))),
    Row("GHMFC", "ghmfc", "d", "unknown",
        _three((76.55, 88.40, 92.01, 83.36), (72.92, 86.85, 90.60, 80.76), (60.27, 79.40, 84.74, 70.99))),
    Row("CLIP", "clip", "d", "tuned",
        _three((83.23, 92.10, 94.51, 88.23), (67.78, 85.22, 90.04, 77.57), (61.21, 79.63, 85.18, 71.69))),
    Row("MIMIC", "", "d", "tuned",
        _three((87.98, 95.07, 96.37, 91.82), (81.02, 91.77, 94.38, 86.95), (63.51, 81.04, 86.43, 73.44)), **OF_MIMIC),
    Row("M3EL", "", "e", "tuned",
        _three((88.84, 95.20, 96.71, 92.30), (82.82, 92.73, 95.34, 88.26), (74.06, 86.57, 90.04, 81.29))),
    Row("MMoE", "", "f", "tuned",
        _three((90.77, 96.27, 97.41, 93.75), (85.51, 93.43, 95.31, 89.86), (77.57, 89.12, 92.49, 84.23))),
    Row("OT-MEL", "", "g", "tuned", _three((88.97,), (83.30,), (66.07,))),
    Row("FAST-MEL", "", "j", "tuned", {"wikimel": (88.95, 95.65, 97.16, 92.56)}),
    # D: lists that hold gold
    Row("BERT", "bert", "i", "unknown", _two((39.95, 54.07), (57.08, 72.03))),
    Row("JMEL", "jmel", "i", "unknown", _two((47.99, 62.42), (51.55, 67.15))),
    Row("DZMNED", "dzmned", "i", "unknown", _two((39.41, 52.13), (29.11, 49.53))),
    Row("MEL-HI", "mel_hi", "i", "unknown", _two((30.86, 47.18), (53.88, 69.01))),
    Row("GHMFC", "ghmfc", "i", "unknown", _two((56.69, 70.45), (55.71, 70.31))),
    Row("DRIN", "drin", "i", "frozen", _two((66.05, 80.84), (49.43, 57.21))),
    Row("CLIP", "clip", "i", "unknown", _two((81.53, 87.89), (61.12, 75.61))),
    Row("MIMIC", "", "i", "tuned", _two((81.62, 88.05), (67.90, 80.57))),
    Row("GPT-3.5", "", "i", "LLM", _two((73.80,), (72.70,))),
    Row("GEMEL", "", "i", "LLM", _two((82.60,), (86.30,))),
    Row("FissFuse", "", "i", "LLM", _two((87.89, 92.02), (83.29, 89.81))),
    Row("RCMEL", "", "i", "LLM", _two((90.63, 93.16), (91.17, 92.06))),
)  # fmt: skip
# DRIN Table 3, test: what is missing, as ABLATIONS names it
EDGES: dict[str, dict[str, tuple[float, ...]]] = {
    "wikimel": {
        "full": (65.5, 91.3, 95.8, 97.7),
        "without image_to_image": (65.2, 91.4, 95.8, 97.9),
        "without image_to_text": (64.0, 90.1, 95.4, 97.9),
        "without text_to_image": (64.4, 90.3, 95.5, 98.0),
        "without text_to_text": (61.2, 88.8, 94.4, 97.8),
        "static edges": (57.8, 86.1, 92.3, 95.5),
    },
    "wikidiverse": {
        "full": (51.1, 77.9, 89.3),
        "without image_to_image": (49.1, 76.8, 89.1),
        "without image_to_text": (49.1, 77.1, 87.7),
        "without text_to_image": (49.3, 77.4, 87.5),
        "without text_to_text": (48.6, 75.3, 87.3),
        "static edges": (49.0, 77.4, 88.6),
    },
}
# DRIN Table 4: layers 1 to 5, the first three k
LAYERS: dict[str, dict[str, tuple[tuple[float, float, float], ...]]] = {
    "wikimel": {
        "valid": ((64.7, 90.0, 95.3), (65.5, 91.3, 95.8), (65.8, 90.7, 95.4), (65.5, 90.6, 95.5), (63.6, 89.3, 94.6)),
        "test": ((64.0, 90.0, 95.3), (65.5, 91.3, 95.8), (64.1, 90.3, 95.5), (63.1, 90.4, 95.5), (62.9, 89.6, 94.5)),
    },
    "wikidiverse": {
        "valid": ((47.8, 76.4, 87.6), (48.5, 77.3, 87.8), (45.5, 75.1, 86.8), (45.9, 75.7, 87.9), (43.9, 72.3, 86.2)),
        "test": ((48.8, 78.0, 89.1), (51.1, 77.9, 89.3), (47.2, 74.5, 87.2), (47.2, 76.4, 86.6), (45.4, 75.9, 86.7)),
    },
}
