"""Do two heads differ on the same mentions?  Paired tests on their differences, in numpy.

A head's value of a mention is the mean, over its seeds, of the expected top-k hit or of the reciprocal rank. So
interval and p speak of other mentions and these very seeds; how far seeds differ is the ± of the tables. Mentions count
as independent of each other, those of one caption too.
"""

from collections.abc import Iterator, Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK = 1 << 20  # numbers drawn at once: 17 MB
ROUNDING = 1e-9  # sums that differ by less are equal: 0.2 + 0.4 - 0.6 is not 0


def paired_bootstrap(
    values: np.ndarray, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ends of each column's percentile interval of the mean, and a two-sided p.  (n, m) -> (m,) three times.

    Rows, one per mention, are drawn with replacement (Koehn 2004), the same ones for all columns. p is twice the
    smaller of the shares of resamples whose mean is at most 0, and at least 0.
    """
    means = np.concatenate([counts @ values for counts in _drawn(len(values), resamples, seed)]) / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    sides = [(1 + (sign * means <= ROUNDING).sum(0)) / (resamples + 1) for sign in (1, -1)]
    return low, high, np.minimum(1, 2 * np.minimum(*sides))


def approximate_randomization(differences: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the two-sided p of each column's sum under random exchanges of the two heads.  (n, m) -> (m,)

    An exchange turns the sign of a mention's difference (Noreen 1989). What was seen counts as one of the exchanges, so
    p is at least 1 / (resamples + 1). The exchanges are the same for all columns.
    """
    seen, tolerance = differences.sum(0), ROUNDING * len(differences)
    extreme = np.ones(differences.shape[1])
    for flips in _flips(len(differences), resamples, seed):
        sums = seen - 2 * (flips @ differences)
        extreme += (np.abs(sums) >= np.abs(seen) - tolerance).sum(0)
    return extreme / (resamples + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979), in the order given."""
    corrected, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected


def _drawn(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of `count` rows is drawn in each of the next resamples, (k, count)."""
    rng = np.random.default_rng(seed)
    for size in _sizes(count, resamples):
        rows = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * count).reshape(size, count).astype(float)


def _flips(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield which of `count` rows are flipped in each of the next resamples, (k, count) of 0 and 1."""
    rng = np.random.default_rng(seed)
    for size in _sizes(count, resamples):
        bits = np.frombuffer(rng.bytes(size * -(-count // 8)), np.uint8).reshape(size, -1)
        yield np.unpackbits(bits, axis=1, count=count).astype(float)


def _sizes(count: int, resamples: int) -> Iterator[int]:
    size = max(1, CHUNK // count)
    for begin in range(0, resamples, size):
        yield min(size, resamples - begin)
