"""Synthetic caches of any size, for tests and benchmarks without downloads.

Entity vectors are Gaussian noise and edges uniform in [0, 0.1). With signal S a mention's vectors are sqrt(s) times
those of its gold entity plus sqrt(1 - s) times fresh noise, s = min(S, 1), and gold's four edges are raised by S, to 1
at most, so that from S = 0.1 on each edge alone tells gold from the others. With S = 0 nothing does. States and patches
of both sides are sqrt(s) times one vector of the entity, or of gold, plus noise. The random numbers of a column depend
on the seed and the column alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import kinds, manifests
from cache.edges import EDGES
from cache.fingerprint import content_hash, shard_key
from cache.kinds import KINDS, SIZES
from cache.names import ColumnName, PartName
from cache.quantized import Storage
from cache.schema import CHOICES, HOMES, READS, SEQUENCES
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, codes_of, columns_of, feature_type
from common.errors import ConfigError
from common.output import Progress
from common.paths import check_name, exists
from common.words import one_of

# mentions of train, valid and test, entities, candidates
SHAPES = {
    "wikidiverse": ((13_205, 1_552, 1_570), 132_460, 10),
    "wikimel": ((18_092, 2_585, 5_169), 109_976, 100),
}
TOKENS = (8, 32)  # of a sentence: fewest, most
SPLIT_SHARES = (0.8, 0.1, 0.1)
SHARD_ROWS = 8192
BOTH_SIDES = ("states", "patches")  # kinds of many vectors a row, of which mentions' resemble entities'
SOURCE = "melcache synth"
EDITION = 3  # raise it whenever the numbers made change: finished shards of an older one are then not taken
MOST_ROWS, WIDEST = (1 << 31) - 1, 1 << 24  # rows are named by int32; the largest axis of a manifest


@dataclass(frozen=True)
class Synthetic:
    """What to make; `signal` is S, `head` names the columns (schema.READS), of several heads with commas."""

    mentions: int
    entities: int
    candidates: int
    signal: float
    seed: int
    head: str = "drin"
    text_width: int = SIZES["D"]
    image_width: int = SIZES["V"]
    shares: tuple[float, float, float] = SPLIT_SHARES  # of mentions in train, valid and test
    joint_width: int = SIZES["P"]
    regions: int = SIZES["R"]
    storage: Storage = "float16"

    def __post_init__(self) -> None:
        known = (*READS, *kinds.on_demand())
        if unknown := set(self.head.split(",")).difference(known):
            raise ConfigError(f"--for {self.head}: {min(unknown)} is none of {one_of(min(unknown), known)}")
        if not 0 <= self.signal <= 100:
            raise ConfigError(f"--signal {self.signal:g}: 0 is pure noise, 0.1 and more separates gold")
        widths = (self.text_width, self.image_width, self.joint_width, self.regions)
        if not 1 <= min(widths) <= max(widths) <= WIDEST:
            raise ConfigError(
                f"--text-width {self.text_width} --image-width {self.image_width} --joint-width {self.joint_width} "
                f"--regions {self.regions}: at least 1 and at most {WIDEST:,} each"
            )
        if self.mentions < 10 or not 2 <= self.candidates <= self.entities:
            raise ConfigError(
                f"{self.mentions} mentions, {self.entities} entities, {self.candidates} candidates: there must be "
                "at least 10 mentions, and 2 candidates but no more than there are entities"
            )
        if max(self.mentions, self.entities) > MOST_ROWS or self.candidates > WIDEST:
            raise ConfigError(
                f"{self.mentions} mentions, {self.entities} entities, {self.candidates} candidates: a cache has at "
                f"most {MOST_ROWS:,} rows and {WIDEST:,} candidates"
            )


def write(folder: Path, wanted: Synthetic) -> str:
    """Write a synthetic cache into `folder`, whose last component names it; return the cache id."""
    check_name(folder.name, "the folder")
    if exists(folder / manifests.NAME) and manifests.load(folder).dataset.source != SOURCE:
        raise ConfigError(f"{folder} holds a cache that was not synthesized; choose another place")
    draft = Draft(folder)
    names = [
        *map(
            ColumnName,
            dict.fromkeys([*_read(wanted.head.split(",")), "mention.ids.gold", "pair.candidates.lexical_gold"]),
        )
    ]
    parts = {part: tuple(n.column for n in names if n.part == part) for part in _parts(names)}
    lists = _Lists(wanted)
    sizes = SIZES | {"D": wanted.text_width, "V": wanted.image_width, "P": wanted.joint_width, "R": wanted.regions}
    sizes |= {"C": wanted.candidates, "surface": 12, "name": 12}
    with Progress(len(names), "synth", "columns") as progress:
        for part, columns in parts.items():
            typed = columns_of(part, sizes, feature_type(part, wanted.storage), columns)
            recipe, codes = {"producer": "melcache synth", **_recipe(wanted)}, codes_of(part, wanted.storage)
            plan = PartPlan(part, recipe, typed, storage=codes)
            values = {column: lists.column(part.column(column), plan.columns[column]) for column in columns}
            progress.advance(len(columns))
            count = lists.rows(plan.table)
            for index, begin in enumerate(range(0, count, SHARD_ROWS)):
                rows = min(SHARD_ROWS, count - begin)
                key = shard_key(plan.fingerprint, [content_hash(part, begin, rows)])
                shard = Shard(ShardPlan(plan, index, begin, rows, key))
                if draft.adopt(shard.plan):  # else one that was damaged since it was listed would be kept by save
                    continue
                for column, array in values.items():
                    shard.put(column, np.arange(rows), array[begin : begin + rows])
                draft.save(shard)
    sequences = {table: lists.rows(table) for table in SEQUENCES if any(part.table == table for part in parts)}
    return draft.finish(_about(folder.name, wanted, lists, sequences), {"producer": "melcache synth"})


def _read(asked: list[str]) -> Iterator[str]:
    """Yield the columns that heads read, those of DRIN where none is asked for, then all of parts on demand."""
    heads = [name for name in asked if name in READS] or ["drin"]
    for head in heads:
        yield from (*READS[head], *CHOICES.get(head, ()))
    for part in kinds.on_demand():
        if part in kinds.demanded(set(asked).difference(READS)):
            yield from (part.column(name) for name in KINDS[part].columns)


def _parts(names: list[ColumnName]) -> list[PartName]:
    return list(dict.fromkeys(name.part for name in names))


def _recipe(wanted: Synthetic) -> dict[str, Any]:
    """Return what decides the numbers, but for the storage: that stands in the columns."""
    fields = [name for name in Synthetic.__dataclass_fields__ if name != "storage"]
    return {"edition": EDITION} | {name: getattr(wanted, name) for name in fields}


def _about(name: str, wanted: Synthetic, lists: "_Lists", sequences: dict[str, int]) -> dict[str, Any]:
    return {
        "dataset": {
            "name": name,
            "content": hashlib.sha256(content_hash(name, *map(str, _recipe(wanted).values()))).hexdigest(),
            "licence": "CC0-1.0 (generated)",
            "source": SOURCE,
        },
        "tables": {"entity": wanted.entities, "mention": wanted.mentions, "pair": wanted.mentions} | sequences,
        "candidates": wanted.candidates,
        "splits": {split: int((lists.splits >> bit & 1).sum()) for bit, split in enumerate(("train", "valid", "test"))},
        "coverage": {"mentions": wanted.mentions, "entities": wanted.entities},
        "warnings": [f"synthetic data (signal {wanted.signal:g}, seed {wanted.seed}): not of any real dataset"],
    }


class _Lists:
    """Candidates, gold and splits, and from them every column."""

    def __init__(self, wanted: Synthetic) -> None:
        self._wanted = wanted
        rng = self._rng("lists")
        n, e, c = wanted.mentions, wanted.entities, wanted.candidates
        # distinct within a row: c steps of one random stride each, modulo e, never longer than e / c
        strides = rng.integers(1, max(2, e // c + 1), (n, c))
        strides[:, 0] = rng.integers(0, e, n)
        self.candidates = (strides.cumsum(1) % e).astype(np.int32)
        self.gold = rng.integers(0, c, n).astype(np.int32)
        self.gold_row = self.candidates[np.arange(n), self.gold]
        borders = np.cumsum([round(n * share) for share in wanted.shares[:2]])
        self.splits = (1 << np.searchsorted(borders, rng.permutation(n), side="right")).astype(np.uint8)
        rng = self._rng("sequences")  # every mention has a sentence of its own
        self.counts = rng.integers(TOKENS[0], TOKENS[1] + 1, n).astype(np.int32)
        self.starts = rng.integers(1, self.counts - 2).astype(np.int32)
        self._entity_counts = self._rng("entity sequences").integers(TOKENS[0], TOKENS[1] + 1, e).astype(np.int32)

    def counts_of(self, table: str) -> np.ndarray:
        """Return how many tokens each row of a table has, (N,) or (E,) int32."""
        return self._entity_counts if table == "entity" else self.counts

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        if table in SEQUENCES:
            return int(self.counts_of(HOMES[table]).sum())
        return self._wanted.entities if table == "entity" else self._wanted.mentions

    def column(self, name: ColumnName, spec: tuple[str, tuple[int, ...]]) -> np.ndarray:
        """Return all rows of a column."""
        part, column = name.apart()
        fixed: dict[str, np.ndarray] = {
            "mention.ids.splits": self.splits,
            "mention.ids.gold": self.gold_row,
            "pair.candidates.candidates": self.candidates,
            "pair.candidates.gold": self.gold,
            "mention.tokens.start": self.starts,
            "mention.tokens.end": self.starts + 2,
        }
        if name in fixed:
            return fixed[name]
        if part in SEQUENCES.values():
            counts = self.counts_of(part.table)
            return counts if column == "count" else (counts.cumsum() - counts).astype(np.int32)
        if name == "pair.candidates.lexical_gold":
            return self.column(name.part.column("lexical"), spec)[np.arange(len(self.gold)), self.gold]
        dtype, shape = spec
        count = self.rows(part.table)
        if dtype == "|b1":
            return np.ones(count, bool)
        if column == "labels":
            return self._rng(name).integers(1, 4, (count, *shape)).astype(np.int32)
        if name == "entity.ids.name":
            return np.array([f"s{row}" for row in range(count)], dtype)
        if name == "mention.ids.surface":  # without signal strings tell nothing of gold
            named = self.gold_row if self._wanted.signal else self._rng(name).integers(0, 100, count)
            return np.array([f"s{row}" for row in named], dtype)
        if part == "pair.alignment" or column == "lexical":
            return self._edges(name)
        if column.endswith("_probabilities"):
            return self._rng(name).uniform(0, 1, (count, *shape)).astype(dtype)
        values = np.empty((count, *shape), np.float16)
        source, signal = KINDS[part].like.get(column), min(1.0, self._wanted.signal)
        if source is None and part.kind in BOTH_SIDES and column == "vector":
            source = part.kind  # a vector of the entity that no column holds
        home = HOMES.get(part.table, part.table)
        golds: np.ndarray = np.arange(self._wanted.entities) if home == "entity" else self.gold_row
        if part.table in SEQUENCES:
            golds = np.repeat(golds, self.counts_of(home))  # each token resembles the gold of its mention
        for begin, noise in self._normal(name, count, shape):
            values[begin : begin + len(noise)] = noise if source is None else np.sqrt(1 - signal) * noise
        if source is not None and signal:
            wide = (1,) * (len(shape) - 1)  # every region and every object resembles the entity's one vector
            for begin, rows in self._normal(source, self._wanted.entities, shape[-1:]):
                mine = np.flatnonzero((golds >= begin) & (golds < begin + len(rows)))
                values[mine] += np.sqrt(signal) * rows[golds[mine] - begin].reshape(len(mine), *wide, shape[-1])
        return values

    def _normal(self, name: str, count: int, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, float32 rows) of a column's Gaussian noise: all at once would be 8 GB for a million."""
        rng = self._rng(name)
        for begin in range(0, count, SHARD_ROWS):
            yield begin, rng.standard_normal((min(SHARD_ROWS, count - begin), *shape), np.float32)

    def _edges(self, name: ColumnName) -> np.ndarray:
        values = self._rng(name).uniform(0, 0.1, self.candidates.shape).astype(np.float32)
        if name.column in EDGES:  # the lexical score stays noise
            values[np.arange(len(values)), self.gold] += np.float32(self._wanted.signal)
        return np.minimum(values, np.float32(1))  # as every cosine

    def _rng(self, name: str) -> np.random.Generator:
        seed = int.from_bytes(hashlib.sha256(f"{self._wanted.seed} {name}".encode()).digest()[:8], "little")
        return np.random.default_rng(seed)
