"""Efficiency of 2 to 512 workers on WikiMEL and on six million entities, by the size of ranges.

    python -m bench --only workers
    python -m bench.simulation.measured --really       # beside it processes that sleep in place of encoding

What a row takes is what extractions noted in their manifests; shapes and costs stand in PLANS.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.simulation import protocol, reality
from bench.simulation.protocol import Cost, Group
from common import console

WORKERS = (2, 4, 8, 16, 64)
SPREAD = 0.2  # ranges of as many rows take up to so much more or less
SETTLE, ADOPT = 0.02, 0.005  # seconds of a task: to copy and save, and for another to read its files ...
SETTLE_ROW, ADOPT_ROW = 2e-5, 2e-5  # ... and of each of its rows: 258 MB of WikiMEL are read and hashed in 0.6 s
LIFETIME, REPLACED = 4 * 3600.0, 60.0  # seconds that a worker lives in the mean, and until another is in its place


@dataclass(frozen=True)
class Plan:
    """Rows of entities and mentions, seconds of a row of each group with one worker, and what is around the tasks."""

    entities: int
    mentions: int
    seconds: tuple[float, float, float, float, float]  # entity rest and texts, mention rest and texts, pair
    cost: Cost

    def groups(self, shard_rows: int, seed: int = 0) -> list[Group]:
        """Return the tasks of ranges of so many rows; what is no text of mentions copies from all ranges before it."""
        draw, found = random.Random(seed), []
        tables = ("entity", "entity", "mention", "mention", "pair")
        for place, (table, seconds) in enumerate(zip(tables, self.seconds, strict=True)):
            rows = self.entities if table == "entity" else self.mentions
            sizes = [min(shard_rows, rows - begin) for begin in range(0, rows, shard_rows)]
            own = [size * seconds * (1 + draw.uniform(-SPREAD, SPREAD)) for size in sizes]
            size = min(shard_rows, rows)
            times = (SETTLE + size * SETTLE_ROW, ADOPT + size * ADOPT_ROW)
            found.append(Group(table, own, *times, copying=place == 2))
        return found


# seconds a row of each group that a manifest of WikiMEL notes, made on 2 busy cores of AMD EPYC: text by MiniLM, a tiny
# joint encoder, no pictures; and ten times that, as any slower encoder has it
MINILM = (0.0022, 0.0302, 0.0037, 0.0094, 0.0011)
TENFOLD = (0.022, 0.302, 0.037, 0.094, 0.0011)
AROUND = Cost(plan=60.0, start=18.0, finish=2.0)  # a plan, imports and weights, the manifest
PLANS = {
    "WikiMEL, MiniLM, no pictures": Plan(18_880, 25_846, MINILM, AROUND),
    "WikiMEL, ten times slower": Plan(18_880, 25_846, TENFOLD, AROUND),
    "6,000,000 entities, MiniLM": Plan(6_000_000, 100_000, MINILM, Cost(plan=900.0, start=60.0, finish=60.0)),
}
SIZES = {
    "WikiMEL, MiniLM, no pictures": (2048, 512, 256, 128),
    "WikiMEL, ten times slower": (2048, 256, 128),
    "6,000,000 entities, MiniLM": (32_768, 8_192),
}


def efficiency(plan: Plan, shard_rows: int, workers: int, *, dying: bool = False) -> dict[str, float]:
    """Return the share of the workers' time that one worker would have needed: of the tasks, and of the whole."""
    groups = plan.groups(shard_rows)
    given = {"lifetime": LIFETIME, "replaced": REPLACED} if dying else {}
    alone, many = (protocol.run(groups, n, Cost(), **more).now for n, more in ((1, {}), (workers, given)))
    whole = [protocol.run(groups, n, plan.cost, **more).now for n, more in ((1, {}), (workers, given))]
    return {"tasks": alone / (workers * many), "whole": whole[0] / (workers * whole[1]), "seconds": whole[1]}


def table(counts: Sequence[int] = WORKERS) -> Iterator[dict[str, Any]]:
    """Yield the rows of docs/benchmarks.md."""
    for name, plan in PLANS.items():
        for size in SIZES[name]:
            row: dict[str, Any] = {"plan": name, "shard_rows": size}
            row["tasks"] = sum(len(group.own) for group in plan.groups(size))
            for count in counts:
                row[f"{count}"] = round(efficiency(plan, size, count)["tasks"], 2)
            row["64, dying"] = round(efficiency(plan, size, 64, dying=True)["tasks"], 2)
            row["64, whole"] = round(efficiency(plan, size, 64)["whole"], 2)
            yield row


def main() -> None:
    """Print JSON: the table, or with --really what processes take that sleep in place of encoding."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation.measured")
    parser.add_argument("--really", action="store_true")
    given = parser.parse_args()
    if given.really:
        with tempfile.TemporaryDirectory() as folder:
            console.show_json(reality.compare(Path(folder), (1, 2, 4, 8)))
    else:
        console.show_json(list(table()))


if __name__ == "__main__":
    main()
