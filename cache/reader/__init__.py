"""Open a cache and hand out its columns, without libhdf5: offsets from the manifest, bytes from the file.

A stranger's HDF5 file can make h5py read any local file; these functions only ever open the manifest and the
regular files that it lists, inside the cache directory.
"""

import math
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cache import bounds, manifests, partial_cache, store
from cache.manifests.entries import Manifest, ShardEntry, Spec
from cache.names import ColumnName
from cache.quantized import SCALE, Quantized
from cache.reader import missing_columns
from cache.reader.shard_column import ShardColumn
from cache.reader.strings import Strings
from cache.schema import PARTS, READS
from cache.store import lacking
from common import memory
from common.errors import CacheError
from common.foreign import shell
from common.output import size
from common.paths import find_cache
from common.words import one_of

LITTLE = 1 << 26  # bytes for which nobody asks how much memory is free
READERS = 8  # threads; more than memory can feed are no faster


class Reader:
    """A checked, read-only view of one cache directory.

    `id` is the cache id (64 hex digits), of the whole cache where this is a part of one (cache.partial_cache);
    `manifest` the parsed manifest, `path` the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest = manifests.load(path)
        self.id: str = partial_cache.whole_manifest(path, self.manifest).id
        for shard in self.manifest.shards:
            self._check_size(shard)

    @property
    def columns(self) -> list[ColumnName]:
        """Full names of all columns, such as "entity.text.sentence"."""
        return self.manifest.columns

    def require(self, head: str, more: Sequence[str] = (), reads: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the columns that a head reads, and `more`.  Raises CacheError naming those that the cache lacks.

        `reads` are those of a head that is none of schema.READS.
        """
        names = tuple(dict.fromkeys([*(READS[head] if reads is None else reads), *more]))
        self.expect(names, head, head)
        return names

    def expect(self, names: Sequence[str], head: str, whom: str) -> None:
        """Raise CacheError for those of the columns that the cache lacks: which, and two commands that get them.

        They are read for a head, by `whom`.
        """
        missing_columns.refuse(self.manifest, self.path, names, head, whom)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a column as it is read, rows first."""
        return (self.manifest.tables[ColumnName(name).table], *self._spec(name).read[1])

    def dtype(self, name: str) -> np.dtype:
        """Return the type of a column as it is read: the stored one, float32 of vectors that are stored as codes."""
        return np.dtype(self._spec(name).read[0])

    def stored_bytes(self, name: str) -> int:
        """Return the bytes that a column takes as it is stored, of codes with their scales."""
        return self.manifest.tables[ColumnName(name).table] * sum(
            self._spec(stored).row_bytes for stored in self._stored(name)
        )

    def column(self, name: str, *, check: bool = True) -> np.ndarray:
        """Return a column as a read-only array (rows, ...).

        Zero copy (a map of the file) where the column lies in one shard and is no codes, else one read per shard into
        a new array.  `check` compares xxh3-128 first.  Raises CacheError for an unknown column, changed bytes, or
        values that cannot be (cache.bounds).
        """
        shards = self._in_shards(name)
        if len(shards) > 1 or self._spec(name).width is not None:
            array = self.read(name, check=check)
        else:
            array = shards[0].map()
            if check:
                shards[0].verify(array)
                bounds.check(self.manifest, name, array, self.path)
        array.flags.writeable = False
        return array

    def read(self, name: str, *, check: bool = True) -> np.ndarray:
        """Return a fresh, writable copy of a column (rows, ...)."""
        return self.load((name,), check=check)[name]

    def load(self, names: Sequence[str], *, check: bool = True) -> dict[str, np.ndarray]:
        """Return fresh, writable copies of columns, read and checked by all cores; codes as vectors."""
        self._refuse_too_large(names, sum(math.prod(self.shape(name)) * self.dtype(name).itemsize for name in names))
        return {
            name: values[:] if isinstance(values, Quantized) else values
            for name, values in self.stored(names, check=check).items()
        }

    def stored(self, names: Sequence[str], *, check: bool = True) -> dict[str, np.ndarray | Quantized]:
        """Return columns as `load` does, but vectors that are stored as codes as these: the trainer's way in."""
        arrays = self._load([stored for name in names for stored in self._stored(name)], check=check)
        widths = {name: self._spec(name).width for name in names}
        return {
            name: arrays[name] if width is None else Quantized(arrays[name], arrays[name + SCALE], width)
            for name, width in widths.items()
        }

    def _load(self, names: Sequence[str], *, check: bool) -> dict[str, np.ndarray]:
        """Return stored columns, of codes and of scales each by itself."""
        shards = {name: self._in_shards(name) for name in names}
        specs = {name: self._spec(name) for name in names}
        rows = {name: self.manifest.tables[ColumnName(name).table] for name in names}
        self._refuse_too_large(names, sum(rows[name] * spec.row_bytes for name, spec in specs.items()))
        found = {name: np.empty((rows[name], *spec.shape), spec.dtype) for name, spec in specs.items()}
        with _pool() as pool:
            jobs = [
                pool.submit(stored.fill, found[name][stored.shard.start : stored.shard.stop], check=check)
                for name in names
                for stored in shards[name]
            ]
        for job in jobs:
            job.result()
        for name in names if check else ():
            bounds.check(self.manifest, name, found[name], self.path)
        return found

    def pieces(self, name: str, *, check: bool = True) -> list[tuple[int, np.ndarray | Quantized]]:
        """Return a column as read-only maps of its shards: (first row, rows (n, ...)) in order of rows.

        For columns larger than memory: only what is touched is read.  `check` reads everything once. Of vectors that
        are stored as codes, rows are made of these when they are taken.
        """
        maps, width = self._maps(name, check=check), self._spec(name).width
        if width is None:
            return [*maps]
        scales = [rows for _, rows in self._maps(name + SCALE, check=check)]
        return [(start, Quantized(codes, of, width)) for (start, codes), of in zip(maps, scales, strict=True)]

    def _maps(self, name: str, *, check: bool) -> list[tuple[int, np.ndarray]]:
        """Return a stored column as `pieces` does."""
        shards = sorted(self._in_shards(name), key=lambda stored: stored.shard.start)
        if check:
            with _pool() as pool:
                list(pool.map(ShardColumn.check, shards))
        lacking.allow_open_files()
        pieces = [(stored.shard.start, stored.map(random=True)) for stored in shards]
        for start, rows in pieces if check else ():
            bounds.check(self.manifest, name, rows, self.path, start)
        return pieces

    def strings(self, name: str) -> Strings:
        """Return a text column as a sequence of Python strings, made of its shards' bytes whenever one is taken.

        Taking one that is not UTF-8 raises CacheError, naming the row.
        """
        return Strings(name, self.path, [(start, np.asarray(rows)) for start, rows in self.pieces(name)])

    def _spec(self, name: str) -> Spec:
        if (spec := self.manifest.column(name)) is not None:
            return spec
        part, column = ColumnName(name).apart()
        known = (
            "it is in the schema but this cache was made without it"
            if column in PARTS.get(part, {})
            else f"columns of this cache: {one_of(name, self.columns)}"
        )
        raise CacheError(f"no column {name!r} in {self.path}: {known}")

    def _in_shards(self, name: str) -> list[ShardColumn]:
        """Return a stored column in each shard of its part.  Raises CacheError for an unknown one."""
        spec, (part, column) = self._spec(name), ColumnName(name).apart()
        return [ShardColumn(self.path, shard, spec, column, name) for shard in self.manifest.shards_of(part)]

    def _stored(self, name: str) -> list[str]:
        """Return the stored columns of one that is read: itself, and the scales if it holds codes."""
        return [name] if self._spec(name).width is None else [name, name + SCALE]

    def _refuse_too_large(self, names: Sequence[str], needed: int) -> None:
        """Raise CacheError for columns that do not fit into memory, before any is taken for them."""
        if needed > LITTLE and needed > (free := memory.free()):
            raise CacheError(
                f"{self.path}: {', '.join(names)} have {size(needed)}, more than the {size(free)} of memory that are "
                "free. Use a machine with more"
            )

    def _check_size(self, shard: ShardEntry) -> None:
        path = self.path / shard.file
        try:
            found = path.lstat()
        except OSError as error:
            raise CacheError(f"{path} is listed in the manifest but cannot be opened: {error.strerror}") from error
        if stat.S_ISLNK(found.st_mode):
            raise store.link(path)
        if found.st_size != shard.bytes:
            raise CacheError(
                f"{path} is {found.st_size:,} bytes, the manifest says {shard.bytes:,}: copied only in part? "
                f"Run: melcache verify {shell(self.path)}"
            )
        if found.st_size >= store.HOLLOW:
            with store.open_shard(path):  # looks for holes, before memory is taken for them
                pass


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(READERS, len(os.sched_getaffinity(0))))


def open(path: str | Path) -> Reader:
    """Open a cache directory, or a name under shards/.  Raises CacheError."""
    return Reader(find_cache(path))
