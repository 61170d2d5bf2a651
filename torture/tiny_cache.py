"""A tiny cache that experiments build, break and build again; and what an experiment reports."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import manifests
from cache.checks import hdf5_gate
from cache.checks.verify import check
from cache.names import PartName
from cache.reader import Reader
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, columns_of
from common.errors import CacheError
from common.output import LINE_SECONDS, say

Parts = Mapping[str, tuple[tuple[str, ...], int]]
PARTS: Parts = {  # part: columns, rows
    "entity.ids": (("id", "name", "image_status"), 9),
    "entity.text": (("sentence", "truncated"), 9),
    "entity.image": (("image", "present"), 9),
    "mention.text": (("span", "found"), 6),
}
SIZES = {"id": 12, "name": 12, "D": 3, "V": 5}
SHARD_ROWS = 3
SHARDS = sum(-(-rows // SHARD_ROWS) for _, rows in PARTS.values())

ABOUT = {
    "dataset": {"name": "torture", "content": "0" * 64, "licence": "CC0", "source": "torture"},
    "tables": {"entity": 9, "mention": 6, "pair": 6},
    "candidates": 2,
    "splits": {"train": 4, "valid": 1, "test": 1},
    "coverage": {"mentions": 6},
    "warnings": [],
}


@dataclass
class Result:
    """How many cases an experiment tried, what it counted, and what went wrong (a line each)."""

    name: str
    tried: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _said: float = field(default_factory=time.monotonic)

    def case(self, cases: int = 1) -> None:
        """Count cases; every half minute say how many there are."""
        self.tried += cases
        if time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            say(f"{self.name}: {self.tried:,} cases so far, {len(self.failures)} failures")

    def most(self, what: str, value: int) -> None:
        """Keep the largest value."""
        self.counts[what] = max(self.counts.get(what, 0), value)

    def count(self, what: str, more: int = 1) -> None:
        """Add to a counter."""
        self.counts[what] = self.counts.get(what, 0) + more

    def fail(self, what: str) -> None:
        """Note a broken promise."""
        self.failures.append(what)


def shards(seed: int, numbers: int = 0, parts: Parts = PARTS, sizes: Mapping[str, int] = SIZES) -> list[Shard]:
    """Return the shards of a world's cache, full.  `numbers` changes what they hold and not what they are called."""
    made = []
    for name, (columns, rows) in parts.items():
        plan = PartPlan(
            PartName(name), {"encoder": "torture", "seed": seed}, columns_of(name, dict(sizes), "<f2", columns)
        )
        for index, start in enumerate(range(0, rows, SHARD_ROWS)):
            count = min(SHARD_ROWS, rows - start)
            key = hashlib.sha256(f"{name} {index} of {seed}".encode()).hexdigest()
            shard = Shard(ShardPlan(plan, index, start, count, key))
            rng = np.random.default_rng([seed, numbers, len(made)])
            for column, (dtype, shape) in plan.columns.items():
                values = rng.normal(size=(count, *shape)) if dtype == "<f2" else rng.integers(0, 2, (count, *shape))
                shard.put(column, np.arange(count), values.astype(dtype))
            made.append(shard)
    return made


def build(
    folder: Path,
    seed: int,
    saved: Callable[[Path], None] = lambda path: None,
    begun: Callable[[], object] = lambda: None,
    numbers: int = 0,
) -> str:
    """Extract the world into a folder as extraction does: finished shards are kept, the rest made, the manifest last.

    `saved` hears of every file that is promised to be there from now on, `begun` of every shard that is made. Returns
    the cache id.
    """
    draft = Draft(folder)
    draft.sweep()
    for shard in shards(seed, numbers):
        if not draft.adopt(shard.plan):
            begun()
            draft.save(shard)
        saved(folder / shard.plan.file)
    identity = draft.finish(ABOUT, {})
    saved(folder / manifests.NAME)
    return identity


def contents(folder: Path) -> dict[str, np.ndarray]:
    """Return all columns of a cache, checked.  Raises CacheError."""
    reader = Reader(folder)
    return reader.load(reader.columns)


def wrong(folder: Path, known: dict[str, dict[str, np.ndarray]]) -> str:
    """Return what is wrong with a folder that should hold no cache or one of those `known` by id; "" if nothing."""
    return "" if _unopened(folder) else unlike(folder, known)


def unlike(folder: Path, known: dict[str, dict[str, np.ndarray]]) -> str:
    """Return what is wrong with a folder that should hold one of the caches `known` by id; "" if nothing."""
    if refusal := _unopened(folder):
        return f"does not open: {refusal}"
    reader = Reader(folder)
    if reader.id not in known:
        return f"opens with the unknown id {reader.id[:12]}"
    expected, found = known[reader.id], reader.load(reader.columns)
    if found.keys() != expected.keys() or any(not np.array_equal(found[name], expected[name]) for name in expected):
        return "opens as complete and gives other numbers"
    damaged = [shard.file for shard in reader.manifest.shards if check(folder, shard).problem]
    return f"opens, but verify finds {damaged}" if damaged else ""


def _unopened(folder: Path) -> str:
    """Return why a cache cannot be read, "" if it can."""
    try:
        reader = Reader(folder)
        reader.load(reader.columns)
    except CacheError as error:
        return str(error)
    return ""


def put(path: Path, data: bytes) -> None:
    """Write a file in place; ext4 sends one that is truncated first to the disk at once."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb", closefd=True) as file:
        file.write(data)
        file.truncate()


@contextlib.contextmanager
def fast_disk() -> Iterator[None]:
    """Skip fsync: where power cuts are not the question it only costs time."""
    real, os.fsync = os.fsync, lambda descriptor: None
    try:
        yield
    finally:
        os.fsync = real


@contextlib.contextmanager
def no_gate() -> Iterator[None]:
    """Let pulls do without the child process that looks at HDF5 files: it takes 0.2 s, and hostile.py tries it."""
    real, hdf5_gate.problems = (
        hdf5_gate.problems,
        lambda folder, manifest, shards: ((shard.file, "") for shard in shards),
    )
    try:
        yield
    finally:
        hdf5_gate.problems = real


def partial(folder: Path) -> list[str]:
    """Return the names of temporary files in a folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")] if folder.is_dir() else []
