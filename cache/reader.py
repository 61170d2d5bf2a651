"""Open a cache and hand out its columns, without libhdf5: offsets from the manifest, bytes from the file.

A stranger's HDF5 file can make h5py read any local file; these functions only ever open the manifest and the
regular files that it lists, inside the cache directory.
"""

import errno
import math
import mmap
import os
import resource
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xxhash

from cache import bounds, manifests, partial_cache, store
from cache.kinds import on_demand
from cache.manifests.entries import Manifest, ShardEntry, Spec
from cache.names import ColumnName, PartName
from cache.quantized import SCALE, Quantized
from cache.schema import CHOICES, PARTS, READS
from cache.store import lacking
from common import memory
from common.by_make import suggested
from common.errors import CacheError
from common.foreign import shell
from common.output import size
from common.paths import find_cache
from common.records import RELEASES
from common.words import one_of

DESCRIPTION = "entity.joint.description"  # the one column that --for does not make
READ_BYTES = 1 << 21  # read, then hashed while a core still has it: the size of a huge page
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
        missing = sorted(set(names) - set(self.columns))
        if not missing:
            return
        parts = sorted({ColumnName(name).part for name in missing} - self.manifest.parts.keys())
        what = f"the parts {', '.join(parts)}" if parts else f"the columns {', '.join(missing)}"
        name, of = self.manifest.dataset.name, {ColumnName(column).part for column in missing}
        others = {ColumnName(column).part for column in missing if column not in READS.get(head, ())}
        makers = [head] if head in READS else _makers(of)
        pulled = [head, *sorted(others)] if head in READS else sorted(of)
        release = {"dataset": name} if name in RELEASES else {"dataset": "RELEASE", "name": name}
        options = release | ({"for": ",".join(makers)} if makers else {})
        described = DESCRIPTION in missing
        command = suggested("extract", options | ({"descriptions": "FILE"} if described else {}))
        source = " (melcache describe fetches one)" if described else ""
        raise CacheError(
            f"{self.path} lacks {what}, which {whom} reads. Compute them: {command}{source}, with the --data and "
            "--weights of the first time. Or take them from a teammate: "
            f"melcache pull {shell(name)} URL --for {shell(','.join(pulled))}"
        )

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
        part, column = self._split(name)
        shards = self.manifest.shards_of(part)
        if len(shards) > 1 or self._spec(name).width is not None:
            array = self.read(name, check=check)
        else:
            array = self._map(shards[0], column, name)
            if check:
                self._verify(array, shards[0], column, name)
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
        parts = {name: self._split(name) for name in names}
        specs = {name: self._spec(name) for name in names}
        rows = {name: self.manifest.tables[ColumnName(name).table] for name in names}
        self._refuse_too_large(names, sum(rows[name] * spec.row_bytes for name, spec in specs.items()))
        found = {name: np.empty((rows[name], *spec.shape), spec.dtype) for name, spec in specs.items()}

        def fill(name: str, column: str, shard: ShardEntry) -> None:
            rows = found[name][shard.start : shard.stop]
            self._fill(rows, shard, column, name, check=check)

        with _pool() as pool:
            jobs = [
                pool.submit(fill, name, column, shard)
                for name, (part, column) in parts.items()
                for shard in self.manifest.shards_of(part)
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
        part, column = self._split(name)
        shards = sorted(self.manifest.shards_of(part), key=lambda shard: shard.start)
        if check:
            with _pool() as pool:
                list(pool.map(lambda shard: self._check(shard, column, name), shards))
        _allow_open_files()
        pieces = [(shard.start, self._map(shard, column, name, random=True)) for shard in shards]
        for start, rows in pieces if check else ():
            bounds.check(self.manifest, name, rows, self.path, start)
        return pieces

    def strings(self, name: str) -> list[str]:
        """Return a text column as Python strings.  Raises CacheError, naming the row, for what is not UTF-8."""
        strings = []
        for row, value in enumerate(self.column(name).tolist()):
            try:
                strings.append(value.decode())
            except UnicodeDecodeError as error:
                raise CacheError(f"{name} of row {row} in {self.path} is not UTF-8: {error.reason}") from None
        return strings

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

    def _split(self, name: str) -> tuple[PartName, str]:
        self._spec(name)
        return ColumnName(name).apart()

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

    def _map(self, shard: ShardEntry, column: str, name: str, *, random: bool = False) -> np.ndarray:
        spec = self._spec(name)
        shape, dtype = (shard.rows, *spec.shape), np.dtype(spec.dtype)
        with store.open_shard(self.path / shard.file) as descriptor:
            try:
                view = lacking.mapped(descriptor, shard.bytes)
            except ValueError:  # cut short since its size was checked
                raise CacheError(self._ended(shard, name)) from None
            except OSError as error:
                more = "v" if error.errno == errno.ENOMEM else "n"
                raise CacheError(
                    f"cannot map {self.path / shard.file}: {error.strerror}. Raise ulimit -{more}"
                ) from None
        if random:
            view.madvise(mmap.MADV_RANDOM)  # else each row brings its neighbors in from the disk
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(view, dtype, count, shard.columns[column].offset).reshape(shape)

    def _fill(self, rows: np.ndarray, shard: ShardEntry, column: str, name: str, *, check: bool) -> None:
        target, offset = rows.view(np.uint8).reshape(-1).data, shard.columns[column].offset
        found, step = xxhash.xxh3_128(), READ_BYTES if check else max(1, len(target))
        with store.open_shard(self.path / shard.file) as descriptor:
            while target:
                count = self._read(descriptor, target[:step], offset, shard, name)
                if check:
                    found.update(target[:count])
                target, offset = target[count:], offset + count
        if check:
            self._compare(found.hexdigest(), shard, column, name)

    def _check(self, shard: ShardEntry, column: str, name: str) -> None:
        """Compare a column's hash; not through a map: what that has touched counts as the process's memory."""
        left = shard.rows * self._spec(name).row_bytes
        buffer, found = memoryview(bytearray(min(left, READ_BYTES))), xxhash.xxh3_128()
        offset = shard.columns[column].offset
        with store.open_shard(self.path / shard.file) as descriptor:
            while left:
                count = self._read(descriptor, buffer[:left], offset, shard, name)
                found.update(buffer[:count])
                left, offset = left - count, offset + count
        self._compare(found.hexdigest(), shard, column, name)

    def _read(self, descriptor: int, target: memoryview, offset: int, shard: ShardEntry, name: str) -> int:
        """Read what comes at once and return how many bytes that is, at least one."""
        try:
            count = os.preadv(descriptor, [target], offset)
        except OSError as error:
            raise CacheError(f"cannot read {self.path / shard.file}: {error.strerror}") from error
        if count == 0:
            raise CacheError(self._ended(shard, name))
        return count

    def _ended(self, shard: ShardEntry, name: str) -> str:
        return f"{self.path / shard.file} ended inside {name}. Run: melcache verify {shell(self.path)}"

    def _verify(self, rows: np.ndarray, shard: ShardEntry, column: str, name: str) -> None:
        self._compare(xxhash.xxh3_128_hexdigest(rows.view(np.uint8).reshape(-1).data), shard, column, name)

    def _compare(self, found: str, shard: ShardEntry, column: str, name: str) -> None:
        if found != shard.columns[column].xxh3:
            raise CacheError(
                f"{name} in {self.path / shard.file} is not what was written (xxh3 differs). "
                f"Run: melcache verify {shell(self.path)}"
            )


def _read(heads: Iterable[str]) -> set[PartName]:
    """Return the parts that heads of melcache read."""
    return {ColumnName(column).part for head in heads for column in (*READS[head], *CHOICES.get(head, ()))}


def _makers(parts: set[PartName]) -> list[str]:
    """Return what --for of an extraction must name for these parts: heads, and parts that no head reads."""
    heads = _readers(parts)
    return [*heads, *sorted(parts & set(on_demand()) - _read(heads))]


def _readers(parts: set[PartName]) -> list[str]:
    """Return heads of melcache that read these parts, as few as it takes; none for parts that none does."""
    reads = {head: _read([head]) for head in READS}
    found: list[str] = []
    while parts and reads[best := max(READS, key=lambda head: len(reads[head] & parts))] & parts:
        found.append(best)
        parts = parts - reads[best]
    return found


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(READERS, len(os.sched_getaffinity(0))))


def _allow_open_files() -> None:
    """Raise this process's limit of open files as far as it may: Python keeps one open for every map."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open(path: str | Path) -> Reader:
    """Open a cache directory, or a name under shards/.  Raises CacheError."""
    return Reader(find_cache(path))
