"""How far a run's confidence is to be believed: calibration, risk and coverage, and abstention where nothing is right.

The confidence of a mention is the probability of its best candidate, at a temperature fitted on valid. A nil mention is
labeled, but no entity of the cache is right: whatever is answered there is wrong, and only abstaining is right. To
abstain where an entity is right is wrong, be it in the list or not. Where to begin abstaining is fitted on valid.
"""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from cache import Reader
from train.judging import calibration, stored_scores
from train.judging.stored_scores import ROUNDING, Scored


def of_run(run: Path, results: dict[str, Any], reader: Reader) -> dict[str, Any] | None:
    """Return `seeds`, what `of_seed` says of each, and their `mean`; None where a seed kept no scores.

    `results` is the content of results.json but for this. Raises ConfigError for scores that are damaged or foreign.
    """
    found = []
    for seed in (result["seed"] for result in results["seeds"]):
        scores = stored_scores.read(run, results, reader, seed)
        if "test" not in scores:
            return None
        found.append({"seed": seed} | of_seed(reader, scores))
    names = [name for name, value in found[0].items() if isinstance(value, float)]
    return {"seeds": found, "mean": {name: statistics.fmean(seed[name] for seed in found) for name in names}}


def of_seed(reader: Reader, scores: dict[str, Scored]) -> dict[str, Any]:
    """Return the `temperature` and the threshold `nil_below` that fit valid, and what is measured on test.

    Without valid the temperature is 1 and nothing abstains.
    """
    warm, threshold = 1.0, 0.0
    if "valid" in scores and len(scores["valid"].rows):
        gold = stored_scores.golds_of(reader, scores["valid"])
        warm = calibration.temperature(scores["valid"].scores, gold)
        threshold = nil_threshold(*confidence_of(reader, scores["valid"], warm))
    sure, right, nil = confidence_of(reader, scores["test"], warm)
    told = abstaining(right, nil, sure < threshold) | calibrated(sure, right)
    return {"temperature": warm, "nil_below": threshold, **told}


def confidence_of(reader: Reader, found: Scored, warm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the confidence of each mention, its Top-1 in expectation, and whether it is nil.  (n,) three times."""
    sure = calibration.probabilities(found.scores, warm).max(1, initial=0.0)
    return sure, stored_scores.expected_top1(found, stored_scores.golds_of(reader, found)), nils(reader, found.rows)


def nils(reader: Reader, rows: np.ndarray) -> np.ndarray:
    """Return which labeled mention rows (n,) are nil; none where the cache does not say which entity is gold."""
    if "mention.ids.gold" not in reader.columns:
        return np.zeros(len(rows), bool)
    found: np.ndarray = np.asarray(reader.column("mention.ids.gold"))[rows] == stored_scores.NIL
    return found


def calibrated(sure: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return what `calibration` says of answers by their confidence and Top-1 hit, whether they are given or not.  (n,)

    The expected calibration error `ece`, the `area_under_risk`, and points [coverage, risk] of the curve.
    """
    return {
        "ece": calibration.expected_calibration_error(sure, right),
        "area_under_risk": calibration.area_under_risk(sure, right) if len(sure) else 0.0,
        "risk_coverage": calibration.risk_points(sure, right),
    }


def abstaining(right: np.ndarray, nil: np.ndarray, abstains: np.ndarray) -> dict[str, float]:
    """Return the shares of mentions that abstain, and that are right so, by Top-1 hit and whether they are nil.  (n,)

    `nil_accuracy` is the share of the `nil` mentions that abstain, 0 of none; `accuracy_with_nil` that of all mentions
    that are right: a hit that does not abstain, or nil that does.
    """
    total = max(1, len(right))
    return {
        "abstained": float(abstains.sum() / total),
        "nil": float(nil.sum()),
        "nil_accuracy": float(abstains[nil].sum() / max(1, nil.sum())),
        "accuracy_with_nil": float(np.where(abstains, nil, right).sum() / total),
    }


def nil_threshold(sure: np.ndarray, right: np.ndarray, nil: np.ndarray) -> float:
    """Return below which confidence it is best to abstain: then most are right, of several the lowest.  (n,) thrice.

    It stands midway between two confidences that occur; 0, which abstains nowhere, where abstaining gains nothing.
    """
    order = np.argsort(sure, kind="stable")
    ranked, gain = sure[order], np.cumsum((nil.astype(float) - right)[order])
    ends = np.flatnonzero(ranked[1:] > ranked[:-1])  # abstaining up to there
    best = ends[np.argmax(gain[ends])] if len(ends) else 0
    if not len(ends) or gain[best] <= ROUNDING:
        return 0.0
    return float((ranked[best] + ranked[best + 1]) / 2)
