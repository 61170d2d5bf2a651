"""Many readers of one cache: rows right, and little memory of their own."""

import json
import os
from pathlib import Path

import numpy as np

from cache.reader import Reader
from cache.writing.synth import Synthetic, write
from torture.processes import child
from torture.tiny_cache import Result

BATCH, BATCHES = 64, 50
LIMIT = 10 << 20  # bytes of its own that a reader may take
COLUMNS = ("entity.text.sentence", "entity.image.vector", "pair.candidates.candidates")


def private() -> int:
    """Return the bytes of memory that only this process needs; clean pages of a mapped file are the system's cache."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty"))


def run(scratch: Path, readers: int, mentions: int, entities: int, seed: int) -> Result:
    """Let `readers` processes gather random rows of a cache (5.6 kB an entity or a mention, by default shapes)."""
    result, folder = Result("readers"), scratch / "synthetic"
    write(folder, Synthetic(mentions, entities, 10, 0.0, seed))
    reader = Reader(folder)
    size = sum(shard.bytes for shard in reader.manifest.shards)
    result.count("MB of cache", size >> 20)
    sums = {name: _sums(reader, name) for name in COLUMNS}
    pids = [child(lambda i=i: _read(folder, scratch / f"reader-{i}.json", seed + i, sums)) for i in range(readers)]
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status:
            result.fail(f"a reader ended with status {status}")
    for i in range(readers):
        found = json.loads((scratch / f"reader-{i}.json").read_text())
        result.case()
        result.most("private MB of the largest", found["private"] >> 20)
        if found["private"] > LIMIT:
            result.fail(f"reader {i} has {found['private'] >> 20} MB of its own")
        if found["wrong"]:
            result.fail(f"reader {i} read {found['wrong']} wrong rows")
    return result


def _sums(reader: Reader, name: str) -> np.ndarray:
    return np.concatenate([rows.astype(np.float64).sum(1) for _, rows in reader.pieces(name)])


def _read(folder: Path, path: Path, seed: int, sums: dict[str, np.ndarray]) -> None:
    before = private()
    rng, wrong, most = np.random.default_rng(seed), 0, 0
    reader = Reader(folder)
    pieces = {name: reader.pieces(name, check=False) for name in COLUMNS}
    for _ in range(BATCHES):
        for name, parts in pieces.items():
            wanted = rng.integers(0, len(sums[name]), BATCH)
            starts = np.array([start for start, _ in parts])
            owners = np.searchsorted(starts, wanted, side="right") - 1
            rows = np.stack([parts[owner][1][row - starts[owner]] for owner, row in zip(owners, wanted, strict=True)])
            wrong += int((rows.astype(np.float64).sum(1) != sums[name][wanted]).sum())
        most = max(most, private() - before)
    path.write_text(json.dumps({"private": most, "wrong": wrong}))
