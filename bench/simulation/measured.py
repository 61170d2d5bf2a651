"""Efficiency of 2 to 512 workers on WikiMEL and on six million entities, by the size of ranges.

    python -m bench --only workers
    python -m bench.simulation.measured --workers 128,256,512  # minutes
    python -m bench.simulation.measured --really       # beside it processes that sleep in place of encoding

What tasks take, and what is around them, is what bench.simulation.costs has measured: costs.json beside this file.
"""

import argparse
import functools
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.simulation import protocol, reality
from bench.simulation.protocol import Cost, Group
from common import console

COSTS = Path(__file__).with_name("costs.json")
WORKERS, MANY = (2, 4, 8, 16, 64), 64
WHOLE = (8, MANY)
SPREAD = 0.2  # ranges of as many rows take up to so much more or less
LIFETIME, REPLACED = 4 * 3600.0, 60.0  # seconds that a worker lives in the mean, and until another is in its place
GROUPS = ("entity.rest", "entity.texts", "mention.rest", "mention.texts", "pair")  # in the order of tasks.split
PLACE = GROUPS.index("mention.rest")  # a task of it copies from ranges before it


@dataclass(frozen=True)
class Plan:
    """Rows of entities and mentions, which encoders' costs and whose planning (of costs.json); cores of a worker.

    Encoders use all cores of a worker, all else one.
    """

    entities: int
    mentions: int
    encoders: str
    planning: str
    cores: int = 1

    def groups(self, shard_rows: int, seed: int = 0) -> list[Group]:
        """Return the tasks of ranges of so many rows."""
        draw, found, costing = random.Random(seed), [], costs()[self.encoders]
        for name in GROUPS:
            table, measured = name.partition(".")[0], costing["groups"][name]
            rows = self.entities if table == "entity" else self.mentions
            sizes = [min(shard_rows, rows - begin) for begin in range(0, rows, shard_rows)]
            (save, save_row), (adopt, adopt_row) = measured["save"], measured["adopt"]
            saving = save_row + save * costing["ranges"] / costing["rows"]  # of ranges as they were measured, with it
            row = max(0.0, measured["row"] - saving) / self.cores
            own = [size * row * (1 + draw.uniform(-SPREAD, SPREAD)) for size in sizes]
            size = min(shard_rows, rows)
            times = (save + size * save_row, adopt + size * adopt_row)
            found.append(Group(table, own, *times))
        share, count = self._copies(shard_rows), len(found[PLACE].own)
        copied = [[j for j in range(i) if draw.random() < share] for i in range(count)]
        found[PLACE] = replace(found[PLACE], copied=copied)
        return found

    def _copies(self, shard_rows: int) -> float:
        """Return from what share of the ranges before it one copies; from all where that was not measured."""
        return float(self._planned.get("copies", {}).get(str(shard_rows), 1.0))

    @property
    def _planned(self) -> dict[str, Any]:
        found: dict[str, Any] = costs()["large"] if self.planning == "large" else costs()["around"][self.planning]
        return found

    def around(self, workers: int) -> Cost:
        """Return what is around the tasks: one worker plans and goes on, several wait for a plan and read it."""
        around, weights, found = costs()["around"], costs()[self.encoders]["weights"], self._planned
        # a manifest was written of WikiMEL's shards: six million entities have more
        finish = around["wikimel"]["finish"] / around["wikimel"]["shards"] * found["shards"]
        serial = found.get("serial", found["plan"])
        plan = around["imports"] + serial + (found["plan"] - serial) / self.cores
        start = weights if workers == 1 else around["imports"] + found["read"] + weights
        return Cost(plan, start, around["look"], finish)


PLANS = {
    "WikiMEL, the papers' encoders": Plan(18_880, 25_846, "the papers' encoders", "wikimel"),
    "WikiMEL, the papers' encoders, 16 cores a worker": Plan(18_880, 25_846, "the papers' encoders", "wikimel", 16),
    "WikiMEL, the papers' encoders, no pictures": Plan(18_880, 25_846, "the papers' encoders, no pictures", "wikimel"),
    "WikiMEL, MiniLM, no pictures": Plan(18_880, 25_846, "MiniLM, no pictures", "wikimel"),
    "6,000,000 entities, MiniLM, no pictures": Plan(6_000_000, 100_000, "MiniLM, no pictures", "large"),
}
SIZES = {
    "WikiMEL, the papers' encoders": (2048, 512, 256, 128, 64),
    "WikiMEL, the papers' encoders, 16 cores a worker": (256, 64),
    "WikiMEL, the papers' encoders, no pictures": (2048, 128),
    "WikiMEL, MiniLM, no pictures": (2048, 512, 256),
    "6,000,000 entities, MiniLM, no pictures": (32_768, 8_192),
}


@functools.cache
def costs() -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(COSTS.read_text())
    return found


def efficiency(plan: Plan, shard_rows: int, workers: int, *, dying: bool = False) -> dict[str, float]:
    """Return the share of the workers' time that one worker would have needed: of the tasks, and of the whole.

    `seconds` is how long the whole takes.
    """
    groups = plan.groups(shard_rows)
    given = {"lifetime": LIFETIME, "replaced": REPLACED} if dying and workers > 1 else {}
    tasks = protocol.run(groups, workers, Cost(look=plan.around(workers).look), **given).now
    alone = protocol.run(groups, 1, Cost(look=plan.around(1).look)).now if workers > 1 else tasks
    whole, whole_alone = plan.around(workers).beside + tasks, plan.around(1).beside + alone
    return {"tasks": alone / (workers * tasks), "whole": whole_alone / (workers * whole), "seconds": whole}


def row(name: str, shard_rows: int, counts: Sequence[int] = WORKERS) -> dict[str, Any]:
    """Return a row of docs/benchmarks.md: efficiency of the tasks, with MANY workers that die, and of the whole."""
    plan = PLANS[name]
    found = {count: efficiency(plan, shard_rows, count) for count in {*counts, *WHOLE}}
    alone = found[MANY]["whole"] * MANY * found[MANY]["seconds"]
    return (
        {"plan": name, "shard_rows": shard_rows, "tasks": sum(len(group.own) for group in plan.groups(shard_rows))}
        | {"hours of one": float(f"{alone / 3600:.2g}")}
        | {f"{count}": round(found[count]["tasks"], 2) for count in counts}
        | {f"{MANY}, dying": round(efficiency(plan, shard_rows, MANY, dying=True)["tasks"], 2)}
        | {f"{count}, whole": round(found[count]["whole"], 2) for count in WHOLE}
    )


def table(counts: Sequence[int] = WORKERS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all plans by sizes of ranges."""
    for name, sizes in SIZES.items():
        for size in sizes:
            yield row(name, size, counts)


def main() -> None:
    """Print JSON: the table, or with --really what processes take that sleep in place of encoding."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation.measured")
    parser.add_argument("--really", action="store_true")
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)), help="numbers of workers")
    given = parser.parse_args()
    if given.really:
        with tempfile.TemporaryDirectory() as folder:
            console.show_json(reality.compare(Path(folder), (1, 2, 4, 8)))
    else:
        console.show_json(list(table([int(count) for count in given.workers.split(",")])))


if __name__ == "__main__":
    main()
