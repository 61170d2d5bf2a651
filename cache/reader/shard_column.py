"""A stored column in the file of one shard: mapped, read or compared with its hash, without libhdf5."""

import errno
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from cache import store
from cache.manifests.entries import ShardEntry, Spec
from cache.store import lacking
from common.errors import CacheError
from common.foreign import shell

READ_BYTES = 1 << 21  # read, then hashed while a core still has it: the size of a huge page


@dataclass(frozen=True, slots=True)
class ShardColumn:
    """A stored column `name` of a spec, in one shard of the cache in `folder`; `column` is its name within its part.

    What is cut short or is not what was written raises CacheError.
    """

    folder: Path
    shard: ShardEntry
    spec: Spec
    column: str
    name: str

    def map(self, *, random: bool = False) -> np.ndarray:
        """Return a map of its rows (rows, ...); `random` where single rows will be taken."""
        shape, dtype = (self.shard.rows, *self.spec.shape), np.dtype(self.spec.dtype)
        with store.open_shard(self._file) as descriptor:
            try:
                view = lacking.mapped(descriptor, self.shard.bytes)
            except ValueError:  # cut short since its size was checked
                raise CacheError(self._ended()) from None
            except OSError as error:
                more = "v" if error.errno == errno.ENOMEM else "n"
                raise CacheError(f"cannot map {self._file}: {error.strerror}. Raise ulimit -{more}") from None
        if random:
            view.madvise(mmap.MADV_RANDOM)  # else each row brings its neighbors in from the disk
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(view, dtype, count, self._offset).reshape(shape)

    def fill(self, rows: np.ndarray, *, check: bool) -> None:
        """Read into rows of its shape and type; `check` compares their hash."""
        target, offset = rows.view(np.uint8).reshape(-1).data, self._offset
        found, step = xxhash.xxh3_128(), READ_BYTES if check else max(1, len(target))
        with store.open_shard(self._file) as descriptor:
            while target:
                count = self._read(descriptor, target[:step], offset)
                if check:
                    found.update(target[:count])
                target, offset = target[count:], offset + count
        if check:
            self._compare(found.hexdigest())

    def check(self) -> None:
        """Compare its hash; not through a map: what that has touched counts as the process's memory."""
        left = self.shard.rows * self.spec.row_bytes
        buffer, found = memoryview(bytearray(min(left, READ_BYTES))), xxhash.xxh3_128()
        offset = self._offset
        with store.open_shard(self._file) as descriptor:
            while left:
                count = self._read(descriptor, buffer[:left], offset)
                found.update(buffer[:count])
                left, offset = left - count, offset + count
        self._compare(found.hexdigest())

    def verify(self, rows: np.ndarray) -> None:
        """Compare the hash of its rows, which are mapped or read already."""
        self._compare(xxhash.xxh3_128_hexdigest(rows.view(np.uint8).reshape(-1).data))

    @property
    def _file(self) -> Path:
        return self.folder / self.shard.file

    @property
    def _offset(self) -> int:
        return self.shard.columns[self.column].offset

    def _read(self, descriptor: int, target: memoryview, offset: int) -> int:
        """Read what comes at once and return how many bytes that is, at least one."""
        try:
            count = os.preadv(descriptor, [target], offset)
        except OSError as error:
            raise CacheError(f"cannot read {self._file}: {error.strerror}") from error
        if count == 0:
            raise CacheError(self._ended())
        return count

    def _ended(self) -> str:
        return f"{self._file} ended inside {self.name}. Run: melcache verify {shell(self.folder)}"

    def _compare(self, found: str) -> None:
        if found != self.shard.columns[self.column].xxh3:
            raise CacheError(
                f"{self.name} in {self._file} is not what was written (xxh3 differs). "
                f"Run: melcache verify {shell(self.folder)}"
            )
