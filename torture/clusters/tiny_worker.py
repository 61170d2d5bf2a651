"""`python -m torture.clusters.tiny_worker FOLDER SEED RECORD SECONDS`: a worker that makes a tiny cache.

It goes by claims as extraction does, takes SECONDS for each range, writes down what it begins, and ends when a file is
there beside RECORD.
"""

import os
import sys
import time
from collections import defaultdict
from pathlib import Path

from cache import store
from cache.store import claims
from cache.writing.draft import Draft
from cache.writing.writer import Shard
from torture.tiny_cache import ABOUT, PARTS, Parts, shards

POLL = 0.1  # seconds between two looks at what others are at
ROWS = 60
LARGER: Parts = {name: (columns, ROWS) for name, (columns, _) in PARTS.items()}
RANGES = ROWS // 3 * 2  # of entities and of mentions
SHARDS = ROWS // 3 * len(PARTS)
NAMES = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME")


def work(folder: Path, seed: int, record: Path, seconds: float) -> str:
    """Make the cache beside any other worker that does; return its id."""
    note(record, f"start {who()}")
    ranges: dict[tuple[str, int], list[Shard]] = defaultdict(list)
    for shard in shards(seed, parts=LARGER):
        ranges[shard.plan.part.name.partition(".")[0], shard.plan.index].append(shard)
    with store.together(folder):
        draft = Draft(folder)
        draft.sweep()
        with claims.Claims(folder) as held:
            while ranges:
                ended = [place for place in ranges if _finish(draft, held, place, ranges[place], record, seconds)]
                ranges = {place: made for place, made in ranges.items() if place not in ended}
                time.sleep(0 if ended else POLL)
        while not gate_of(record).exists():
            time.sleep(POLL)
        identity = draft.finish(ABOUT | {"tables": {"entity": ROWS, "mention": ROWS, "pair": ROWS}}, {})
        claims.clear(folder)
    return identity


def gate_of(record: Path) -> Path:
    """Return the file for which workers wait at their end."""
    return record.with_name("gate")


def who() -> str:
    """Return this process, and where it runs in Slurm."""
    return " ".join([str(os.getpid()), *(os.environ.get(name, "-") for name in NAMES)])


def note(record: Path, line: str) -> None:
    """Add a line to a file that several processes write."""
    with record.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def _finish(draft: Draft, held: claims.Claims, place: tuple[str, int], made: list[Shard], record: Path,
            seconds: float) -> bool:  # fmt: skip
    """Make what is missing of a range unless another is at it; return whether it is finished."""
    with held.held(*place) as mine:
        if mine and (missing := [shard for shard in made if not draft.adopt(shard.plan)]):
            note(record, f"range {place[0]} {place[1]}")
            time.sleep(seconds)
            for shard in missing:
                draft.save(shard)
        return mine


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
