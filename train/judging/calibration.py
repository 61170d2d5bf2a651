"""How sure a head is: a temperature that makes scores probabilities, and how far these are to be believed.

Guo et al., On Calibration of Modern Neural Networks (2017): one temperature, fitted on valid by the likelihood of gold;
the expected calibration error over bins of equal width. Risk and coverage as in El-Yaniv and Wiener (2010), the area
under their curve as in Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Classifiers (2019).
"""

import numpy as np

BINS = 15
COLDEST, HOTTEST = 1e-4, 1e4
STEPS = 80  # of a golden section over the logarithm: to a relative 1e-15
GOLDEN = (np.sqrt(5) - 1) / 2


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return the softmax over each list.  scores (n, C), -inf = no candidate -> float64 (n, C), 0 there."""
    scaled = scores.astype(np.float64) / temperature
    top = scaled.max(1, keepdims=True, initial=-np.inf)
    shares = np.exp(scaled - np.where(np.isfinite(top), top, 0))
    total = shares.sum(1, keepdims=True)
    found: np.ndarray = shares / np.where(total > 0, total, 1)
    return found


def temperature(scores: np.ndarray, gold: np.ndarray) -> float:
    """Return the temperature under which gold is likeliest.  scores (n, C), gold (n,) position, -1 = not there.

    Mentions whose gold is not in the list say nothing of it. Without any, 1. The likelihood is unimodal in the inverse.
    """
    there = gold >= 0
    scores, gold = scores[there].astype(np.float64), gold[there]
    if not len(gold):
        return 1.0
    scores = scores - scores.max(1, keepdims=True)
    own = scores[np.arange(len(gold)), gold]

    def loss(log: float) -> float:
        inverse = np.exp(-log)
        return float(np.log(np.exp(scores * inverse).sum(1)).mean() - (own * inverse).mean())

    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean distance between confidence and accuracy over bins of confidence.  (n,) in [0, 1] twice."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sums = np.bincount(bins, confidence, BINS) - np.bincount(bins, right, BINS)
    return float(np.abs(sums).sum() / max(1, len(confidence)))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and risk of answering the surest k mentions, for each distinct confidence.  (n,), (n,) -> (k,)"""
    order = np.argsort(-confidence, kind="stable")
    sure, wrong = confidence[order], np.cumsum(1 - right[order])
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))  # equally sure ones are answered together
    return (last + 1) / len(sure), wrong[last] / (last + 1)


def risk_points(confidence: np.ndarray, right: np.ndarray, most: int = 101) -> list[list[float]]:
    """Return at most so many points [coverage, risk] of the curve, in [0, 1], the last at full coverage.  (n,), (n,)

    Those nearest to equal steps of coverage are kept. Of no mention there is no point.
    """
    if not len(confidence):
        return []
    coverage, risk = risk_coverage(confidence, right)
    wanted = np.linspace(coverage[0], 1, most)
    kept = np.unique(np.searchsorted(coverage, wanted - 1e-12)) if len(coverage) > most else np.arange(len(coverage))
    return [[float(coverage[place]), float(risk[place])] for place in kept]


def area_under_risk(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean, over mentions, of the risk of answering those that are at least as sure; lower is better."""
    coverage, risk = risk_coverage(confidence, right)
    return float((risk * np.diff(coverage, prepend=0.0)).sum())
