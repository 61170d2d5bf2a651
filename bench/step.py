"""Training step of DRIN against the literal dense graph, paired in one run: `make bench`."""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.dense import dense_scores
from train.batch import Batch, make_batch
from train.models.drin import Drin, DrinConfig

PAIRS = 5
MENTIONS = 64


def random_batch(candidates: int) -> Batch:
    """Return a full-size batch of noise."""
    rng = np.random.default_rng(0)
    shapes = {
        "mention_text": (MENTIONS, 768),
        "mention_image": (MENTIONS, 2048),
        "entity_text": (MENTIONS, candidates, 768),
        "entity_image": (MENTIONS, candidates, 2048),
        "edges": (MENTIONS, candidates, 2, 2),
    }
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    present, gold = np.ones((MENTIONS, candidates), bool), rng.integers(0, candidates, MENTIONS)
    return make_batch(arrays | {"present": present, "gold": gold})


def seconds(model: Drin, score: Callable[[Batch], Tensor], batch: Batch) -> float:
    """Return the wall time of forward and backward."""
    model.zero_grad(set_to_none=True)
    start = time.perf_counter()
    model.loss(score(batch), batch).backward()
    return time.perf_counter() - start


def main() -> None:
    """Print one JSON line per number of candidates: medians in milliseconds and the median of paired ratios."""
    for candidates in (10, 100):
        batch, model = random_batch(candidates), Drin(DrinConfig())
        with torch.no_grad():
            difference = (model(batch) - dense_scores(model, batch)).abs().max().item()
        pairs = []
        for _ in range(PAIRS + 1):  # the first pair warms up
            fast = seconds(model, model, batch)
            pairs.append((fast, seconds(model, lambda b, m=model: dense_scores(m, b), batch)))
        found = {
            "candidates": candidates,
            "threads": torch.get_num_threads(),
            "bipartite_ms": round(1e3 * statistics.median(fast for fast, _ in pairs[1:]), 1),
            "dense_ms": round(1e3 * statistics.median(slow for _, slow in pairs[1:]), 1),
            "times_faster": round(statistics.median(slow / fast for fast, slow in pairs[1:]), 2),
            "largest_score_difference": difference,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
