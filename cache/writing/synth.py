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
from cache.fingerprint import content_hash, shard_key
from cache.kinds import KINDS, SIZES
from cache.names import ColumnName, PartName
from cache.quantized import Storage
from cache.schema import CHOICES, READS, SEQUENCES
from cache.writing.draft import Draft
from cache.writing.synth_columns import Columns
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
SPLIT_SHARES = (0.8, 0.1, 0.1)
SHARD_ROWS = 8192
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
    lists = Columns(wanted, SHARD_ROWS)
    sizes = SIZES | {"D": wanted.text_width, "V": wanted.image_width, "P": wanted.joint_width, "R": wanted.regions}
    sizes |= {"C": wanted.candidates, "surface": 12, "name": 12}
    shards = sum(-(-lists.rows(part.table) // SHARD_ROWS) for part in parts)
    with Progress(shards, "synth", "shards") as progress:
        for part, columns in parts.items():
            typed = columns_of(part, sizes, feature_type(part, wanted.storage), columns)
            recipe, codes = {"producer": "melcache synth", **_recipe(wanted)}, codes_of(part, wanted.storage)
            plan = PartPlan(part, recipe, typed, storage=codes)
            values = {column: lists.blocks(part.column(column), plan.columns[column]) for column in columns}
            count = lists.rows(plan.table)
            for index, begin in enumerate(range(0, count, SHARD_ROWS)):
                rows = min(SHARD_ROWS, count - begin)
                key = shard_key(plan.fingerprint, [content_hash(part, begin, rows)])
                shard = Shard(ShardPlan(plan, index, begin, rows, key))
                arrays = {column: next(blocks) for column, blocks in values.items()}
                progress.advance()
                if draft.adopt(shard.plan):  # else one that was damaged since it was listed would be kept by save
                    continue
                for column, array in arrays.items():
                    shard.put(column, np.arange(rows), array)
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


def _about(name: str, wanted: Synthetic, lists: Columns, sequences: dict[str, int]) -> dict[str, Any]:
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
