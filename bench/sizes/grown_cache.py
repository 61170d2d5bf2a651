"""A cache with as many entities as one likes, for links: `python -m bench.sizes.grown_cache CACHE FOLDER 6000000`.

What a head of texts reads is taken over from a cache that was extracted, with its recipes, so that its encoder links.
Behind its entities stand made-up ones: names that exchange the words of real ones, and vectors of real ones with noise,
which repeat after a million: their files have several names.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import cache
from bench.sizes.planning import SHARD_ROWS
from cache.fingerprint import shard_key
from cache.manifests.entries import ShardEntry
from cache.names import PartName
from cache.reader import Reader
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan
from common.output import Progress

PARTS = tuple(map(PartName, ("entity.ids", "entity.text", "mention.ids", "mention.text", "pair.candidates")))
NOISE = 0.5  # of a vector's length
WORDS = 3  # of a name that is made up
REPEATED = 128  # shards of vectors


def main() -> None:
    """Write a cache of so many entities."""
    source, folder, entities = cache.open(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    write(source, folder, entities)


def write(source: Reader, folder: Path, entities: int) -> None:
    """Write the parts of texts of a cache, with entities up to so many, into a folder."""
    draft, manifest = Draft(folder), source.manifest
    tables = manifest.tables | {"entity": max(entities, manifest.tables["entity"])}
    made = MadeUp(source)
    with Progress(sum(tables[part.table] for part in PARTS), "grow", "rows") as progress:
        for part in PARTS:
            recipe = {
                name: value for name, value in manifest.parts[part].recipe.items() if name not in ("columns", "format")
            }
            columns = {name: spec.read for name, spec in manifest.parts[part].columns.items()}
            plan = PartPlan(part, recipe, columns, manifest.parts[part].inputs)
            listed: list[ShardEntry] = []
            held = {name: source.column(part.column(name)) for name in columns}
            for index, begin in enumerate(range(0, tables[part.table], SHARD_ROWS)):
                rows = np.arange(begin, min(begin + SHARD_ROWS, tables[part.table]))
                key = shard_key(plan.fingerprint, [str(tables).encode(), str(begin).encode()])
                shard = Shard(ShardPlan(plan, index, begin, len(rows), key))
                if part == "entity.text" and index >= REPEATED and len(rows) == SHARD_ROWS:
                    draft.take(shard.plan, folder, listed[index % REPEATED])
                    progress.advance(len(rows))
                    continue
                for name, values in held.items():
                    shard.put(name, np.arange(len(rows)), made.rows(name, values, rows))
                listed.append(shard.save(folder))
                draft.adopt(shard.plan)
                progress.advance(len(rows))
    about = {
        "dataset": manifest.dataset.as_json(),
        "tables": {name: tables[name] for name in ("entity", "mention", "pair")},
        "candidates": manifest.candidates,
        "splits": dict(manifest.splits),
        "coverage": {"mentions": tables["mention"], "entities": tables["entity"]},
        "warnings": [f"entities beyond {manifest.tables['entity']:,} are made up"],
    }
    draft.finish(about, {"producer": "bench.sizes.grown_cache"})


class MadeUp:
    """Rows of the columns of a cache, and made-up ones behind those that it has."""

    def __init__(self, source: Reader) -> None:
        names = source.strings("entity.ids.name")
        self._words = np.array(list(dict.fromkeys(word for name in names for word in name.split())))

    def rows(self, name: str, held: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return rows of a column, of which some are held."""
        rng = np.random.default_rng(int(rows[0]))
        found = held[rows % len(held)]
        new = np.flatnonzero(rows >= len(held))
        if not len(new):
            return found
        found = found.copy()
        if name == "id":
            found[new] = [f"Q{row}-new".encode() for row in rows[new].tolist()]
        elif name == "name":
            found[new] = self._names(rng, len(new), held.dtype)
        elif name.startswith("content_"):
            found[new] = rng.integers(0, 256, (len(new), *held.shape[1:]), np.uint8)
        elif held.dtype.kind == "f":
            lengths = np.linalg.norm(found[new].astype(np.float32), axis=1, keepdims=True)
            noise = rng.standard_normal(found[new].shape, np.float32) * NOISE / np.sqrt(found.shape[1])
            found[new] = found[new] + lengths * noise
        return found

    def _names(self, rng: np.random.Generator, count: int, dtype: np.dtype[Any]) -> list[bytes]:
        words = self._words[rng.integers(0, len(self._words), (count, WORDS))]
        used = rng.integers(1, WORDS + 1, count).tolist()
        told = (" ".join(some[:n]).encode()[: dtype.itemsize] for some, n in zip(words.tolist(), used, strict=True))
        return [name.decode(errors="ignore").encode() for name in told]


if __name__ == "__main__":
    main()
