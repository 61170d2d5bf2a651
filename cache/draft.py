"""A cache while it is being written: finished shards, their rows, and at last the manifest."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from cache import manifest, store
from cache.schema import TABLES, VERSION, split_column
from cache.writer import PartPlan, Shard, ShardPlan, adopt
from common.errors import CacheError


class Draft:
    """Finished shards of one cache directory.  Opening one sweeps the temporaries of dead writers.

    `parts` are the manifest's of the cache that is there already; `made` and `kept` count shards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = self.kept = 0
        self._plans: dict[str, PartPlan] = {}
        self._entries: dict[str, list[dict[str, Any]]] = {}
        self.parts: dict[str, Any] = {}
        self._sums: dict[str, str] = {}  # sha256 by file, of the same cache
        if folder.is_dir():
            store.sweep(folder)
            with contextlib.suppress(CacheError):
                found = manifest.load(folder)
                self.parts = found["parts"]
                self._sums = {shard["file"]: shard["sha256"] for shard in found["shards"]}

    @property
    def listed(self) -> dict[str, str]:
        """The fingerprints of the parts of the cache that is there already."""
        return {name: part["fingerprint"] for name, part in self.parts.items()}

    def adopt(self, plan: ShardPlan) -> bool:
        """Take a shard that is finished already, of this name and layout.  Returns whether there was one."""
        entry = adopt(plan, self.folder)
        if entry is None:
            return False
        if self._sums.get(plan.file, entry["sha256"]) != entry["sha256"]:
            (self.folder / plan.file).unlink(missing_ok=True)  # damaged since it was listed: compute it again
            return False
        self._add(plan, entry)
        self.kept += 1
        return True

    def save(self, shard: Shard) -> None:
        """Publish a shard and count it as finished."""
        self._add(shard.plan, shard.save(self.folder))
        self.made += 1

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the given rows (n,) of a column, (n, ...).  Raises CacheError if one is in no finished shard."""
        part, column = split_column(name)
        dtype, shape = self._plans[part].columns[column]
        result, found = np.empty((len(rows), *shape), dtype), 0
        for entry in self._entries[part]:
            inside = np.flatnonzero((rows >= entry["start"]) & (rows < entry["start"] + entry["rows"]))
            if len(inside):
                values = np.memmap(
                    self.folder / entry["file"], dtype, "r", entry["columns"][column]["offset"], (entry["rows"], *shape)
                )
                result[inside] = values[rows[inside] - entry["start"]]
                found += len(inside)
        if found != len(rows):
            raise CacheError(f"{name}: {len(rows) - found} of {len(rows)} rows are in no finished shard; this is a bug")
        return result

    def column(self, name: str) -> np.ndarray:
        """Return a whole column whose shards are all finished."""
        entries = self._entries[split_column(name)[0]]
        return self.rows(name, np.arange(sum(entry["rows"] for entry in entries)))

    def finish(self, about: dict[str, Any], provenance: dict[str, Any]) -> str:
        """Write the manifest of all finished shards and return the cache id.

        `about` holds the manifest's fields dataset, tables, candidates, splits, coverage and warnings;
        `provenance` says when, where and how long, and is not part of the id.
        """
        parts = sorted(self._plans, key=lambda name: (TABLES.index(name.split(".")[0]), name))
        shards = [entry for part in parts for entry in sorted(self._entries[part], key=lambda entry: entry["start"])]
        content = {
            "format": "melcache",
            "version": VERSION,
            "parts": {part: self._plans[part].manifest_entry for part in parts},
            "shards": shards,
            "provenance": provenance,
        }
        return manifest.save(self.folder, content | about)

    def _add(self, plan: ShardPlan, entry: dict[str, Any]) -> None:
        self._plans[plan.part.name] = plan.part
        self._entries.setdefault(plan.part.name, []).append(entry)
