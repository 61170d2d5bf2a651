"""A cache while it is being written: finished shards, their rows, and at last the manifest."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cache import manifests, store
from cache.manifests.entries import Manifest, ShardEntry
from cache.names import ColumnName, PartName
from cache.quantized import SCALE, Quantized
from cache.schema import TABLES, VERSION
from cache.store import lacking
from cache.store.resumable_file import WriteError
from cache.writing import checksums, limits
from cache.writing.limits import Column
from cache.writing.writer import PartPlan, Shard, ShardPlan, adopt
from common.errors import CacheError, DeniedError
from common.paths import exists, names

KEPT, TAKEN, FETCHED, MADE = "kept", "taken", "fetched", "made"  # where a finished shard is from
Problem = Callable[[ShardPlan, ShardEntry, Column], str]  # as cache.writing.limits.problem


class Draft:
    """Finished shards of one cache directory.  Opening one writes nothing.

    `before` is the manifest of the cache that is there already, None where there is none, and `parts` are its parts.
    `wrong` says, by file, what is wrong with the values of shards that look finished; `damaged` are those whose
    sha256 is not the recorded one, or that have none recorded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before: Manifest | None = None
        self._plans: dict[PartName, PartPlan] = {}
        self._entries: dict[PartName, list[ShardEntry]] = {}
        self._origins: dict[str, str] = {}  # of finished shards, by file
        self.wrong: dict[str, str] = {}
        self.damaged: set[str] = set()
        self._problem: Problem = limits.problem
        try:
            self.before = manifests.load(folder)
        except DeniedError:
            raise
        except CacheError:  # none, or a damaged one
            pass
        if linked := [name for name in names(folder) if name.endswith(".h5") and (folder / name).is_symlink()]:
            raise store.link(folder / linked[0])
        self.parts = self.before.parts if self.before else {}
        self._sums = {shard.file: shard.sha256 for shard in self.before.shards} if self.before else {}

    @property
    def listed(self) -> dict[PartName, str]:
        """The fingerprints of the parts of the cache that is there already."""
        return {name: part.fingerprint for name, part in self.parts.items()}

    @property
    def made(self) -> int:
        """How many shards were computed."""
        return sum(self.shards(MADE).values())

    @property
    def kept(self) -> int:
        """How many finished shards were present locally."""
        return sum(self.shards(KEPT).values())

    @property
    def taken(self) -> int:
        """How many shards a cache beside this one had."""
        return sum(self.shards(TAKEN).values())

    @property
    def fetched(self) -> int:
        """How many shards came from elsewhere."""
        return sum(self.shards(FETCHED).values())

    def shards(self, origin: str) -> Counter[str]:
        """Return the number of finished shards from there by part."""
        entries = (entry for entries in self._entries.values() for entry in entries)
        return Counter(entry.part for entry in entries if self._origins[entry.file] == origin)

    def rows_made(self) -> Counter[str]:
        """Return how many rows were computed, by part."""
        made: Counter[str] = Counter()
        for part, entries in self._entries.items():
            made[part] = sum(entry.rows for entry in entries if self._origins[entry.file] == MADE)
        return made

    def rows_known(self) -> Counter[str]:
        """Return how many rows were kept that the cache which was here already listed, by part."""
        known: Counter[str] = Counter()
        for part, entries in self._entries.items():
            kept = [entry for entry in entries if self._origins[entry.file] == KEPT]
            known[part] = sum(entry.rows for entry in kept if entry.file in self._sums)
        return known

    def sweep(self) -> None:
        """Remove the temporary files of processes that have ended, but for those that a fetch can continue."""
        store.sweep(self.folder, begun=False)

    def examine(self, problem: Problem) -> None:
        """Take no shard from now on in whose values `problem` finds something wrong, beside what cannot be at all."""
        self._problem = problem

    def has(self, plan: ShardPlan) -> bool:
        """Whether a shard is finished: a file of this name and layout, and of the bytes that were listed or noted."""
        return self._entry(plan) is not None

    def adopt(self, plan: ShardPlan, origin: str = KEPT) -> bool:
        """Take a shard that is finished already, as `has` says; remove what is not.  Returns whether there was one.

        A file that the manifest does not list gets the time of now, so that `melcache gc` does not take it for old.
        """
        path, before = self.folder / plan.file, None
        with contextlib.suppress(OSError):  # there is none, or it is a colleague's
            before = path.lstat()
            if plan.file not in self._sums:
                os.utime(path)
        entry = self._entry(plan)
        if entry is None:
            with contextlib.suppress(OSError):  # as it was looked at: another extractor may have mended it
                if before is not None and os.path.samestat(before, path.lstat()):
                    path.unlink()
            return False
        self._add(plan, entry, origin)
        return True

    def take(self, plan: ShardPlan, folder: Path, listed: ShardEntry) -> bool:
        """Take a shard that the cache in another folder lists: its file gets a second name here, and is then adopted.

        Returns whether it is of the listed bytes, and as `has` says of one that is here; the other cache keeps what is
        not. Where two caches cannot share a file it is copied. Raises CacheError where it cannot be read, WriteError
        for a full or failing disk here.
        """
        source, target = folder / listed.file, self.folder / plan.file
        with store.open_shard(source):
            checksums.note(self.folder, plan.file, listed.sha256)
            try:
                if not lacking.link(source, target, "links between caches"):
                    store.publish(target, store.read_regular(source, listed.bytes), replace=False)
            except FileExistsError:  # another extractor was faster
                pass
            except OSError as error:
                raise WriteError(
                    f"cannot write {target}: {error.strerror or error}. Finished shards are kept; "
                    f"{store.remedy(error)} and run the same command again"
                ) from error
        try:
            return self.adopt(plan, TAKEN)
        except CacheError:  # its disk fails: this cache shall not hold on to it
            target.unlink(missing_ok=True)
            raise

    def entry(self, plan: ShardPlan) -> ShardEntry | None:
        """Return the manifest entry of a shard that was adopted or saved, None where it was not yet."""
        return next((entry for entry in self._entries.get(plan.part.name, ()) if entry.file == plan.file), None)

    def renew(self, plan: ShardPlan) -> ShardEntry | None:
        """Take a file that came in place of an adopted or saved one; return its entry, None if it is not finished."""
        entry, mine = self._entry(plan), self._entries[plan.part.name]
        if entry is not None:
            mine[next(place for place, there in enumerate(mine) if there.file == plan.file)] = entry
            self._origins[plan.file] = FETCHED
        return entry

    def save(self, shard: Shard) -> None:
        """Publish a shard and count it as finished."""
        self._add(shard.plan, shard.save(self.folder), MADE)

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the given rows (n,) of a column, (n, ...), vectors that are stored as codes as float32.

        Raises CacheError if one is in no finished shard.
        """
        part, column = ColumnName(name).apart()
        dtype, shape = self._plans[part].columns[column]
        result, found = np.empty((len(rows), *shape), dtype), 0
        for entry in self._entries[part]:
            inside = np.flatnonzero((rows >= entry.start) & (rows < entry.stop))
            if len(inside):
                values = self._read(entry, self._plans[part], column)
                result[inside] = values[rows[inside] - entry.start]
                found += len(inside)
        if found != len(rows):
            raise CacheError(f"{name}: {len(rows) - found} of {len(rows)} rows are in no finished shard; this is a bug")
        return result

    def column(self, name: str) -> np.ndarray:
        """Return a whole column whose shards are all finished."""
        entries = self._entries[ColumnName(name).part]
        return self.rows(name, np.arange(sum(entry.rows for entry in entries)))

    def pieces(self, name: str) -> list[tuple[int, np.ndarray | Quantized]]:
        """Return a column whose shards are all finished as maps of them, (first row, rows (n, ...)) in order of rows.

        Raises CacheError if rows between them are in none.
        """
        part, column = ColumnName(name).apart()
        entries = sorted(self._entries[part], key=lambda entry: entry.start)
        if lost := [entry.start for before, entry in pairwise(entries) if before.stop != entry.start]:
            raise CacheError(f"{name}: rows before {lost[0]} are in no finished shard; this is a bug")
        lacking.allow_open_files()
        return [(entry.start, self._read(entry, self._plans[part], column)) for entry in entries]

    def finish(self, about: dict[str, Any], provenance: dict[str, Any]) -> str:
        """Write the manifest of all finished shards, sweep what is left over, and return the cache id.

        `about` holds the manifest's fields dataset, tables, candidates, splits, coverage and warnings;
        `provenance` says when, where and how long, and is not part of the id.
        """
        parts = sorted(self._plans, key=lambda name: (TABLES.index(name.table), name))
        shards = [entry for part in parts for entry in sorted(self._entries[part], key=lambda entry: entry.start)]
        for entry in shards:
            if not exists(self.folder / entry.file):
                raise CacheError(
                    f"{self.folder / entry.file} was removed while this ran, so the cache is not finished. Run the "
                    "same command again: what is left is kept"
                )
        content = {
            "format": "melcache",
            "version": VERSION,
            "parts": {part: self._plans[part].manifest_entry.as_json() for part in parts},
            "shards": [shard.as_json() for shard in shards],
            "provenance": provenance,
        }
        files = [shard.file for shard in shards]
        checksums.keep(self.folder, files)
        identity = manifests.save(self.folder, content | about)
        checksums.forget(self.folder, files)
        store.sweep(self.folder)
        return identity

    def _entry(self, plan: ShardPlan) -> ShardEntry | None:
        """Return the manifest entry of a finished shard, None where there is none, or one without its checksum."""
        entry = adopt(plan, self.folder)
        if entry is None:
            return None
        listed = self._sums.get(plan.file) == entry.sha256
        if not listed and not checksums.known(self.folder, plan.file, entry.sha256):
            self.damaged.add(plan.file)
            return None
        if problem := self._problem(plan, entry, lambda column: self._values(entry, plan.part, column)):
            self.wrong[plan.file] = problem
            return None
        return entry

    def _read(self, entry: ShardEntry, part: PartPlan, column: str) -> np.ndarray | Quantized:
        """Return a column of a finished shard, (rows, ...), to take rows of."""
        values = self._values(entry, part, column)
        if column not in part.quantized:
            return values
        return Quantized(values, self._values(entry, part, column + SCALE), part.columns[column][1][-1])

    def _values(self, entry: ShardEntry, part: PartPlan, column: str) -> np.ndarray:
        """Return a column of a finished shard as it is stored, as a map of its file, (rows, ...)."""
        dtype, shape = part.stored[column]
        with store.open_shard(self.folder / entry.file) as descriptor:
            view = lacking.mapped(descriptor, entry.bytes)
        count, offset = entry.rows * int(np.prod(shape)), entry.columns[column].offset
        return np.frombuffer(view, dtype, count, offset).reshape(entry.rows, *shape)

    def _add(self, plan: ShardPlan, entry: ShardEntry, origin: str) -> None:
        self._plans[plan.part.name] = plan.part
        self._entries.setdefault(plan.part.name, []).append(entry)
        self._origins[plan.file] = origin
