"""A .npy file read in blocks of rows: its header checked first, nothing unpickled, memory bounded whatever its size.

Not mapped: pages that a map has touched count as the process's memory, and a file cut short kills its reader.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cache import store
from common.errors import CacheError
from common.paths import exists

BLOCK = 32 << 20  # bytes read at a time
WANTED = {"f": "floats", "i": "integers", "U": "strings"}


class Array:
    """One .npy file, (rows, ...) in C order, of `kind` "f", "i" or "U".

    `shape` is what its header says.  Raises CacheError for a file that is missing, pickled, damaged or of another kind.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        if not exists(path):
            raise CacheError(f"there is no {path.name} in {path.parent}/: one of DRIN's preprocessed arrays is missing")
        with store.open_regular(path.resolve()) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            self.shape, fortran, self.dtype = self._header(file)
            self._offset = file.tell()
            found = os.fstat(descriptor).st_size
        if self.dtype.hasobject:
            raise CacheError(f"{path}: expected {WANTED[kind]}, found pickled objects, which melcache never loads")
        if self.dtype.kind not in {"f": "f", "i": "iub", "U": "U"}[kind] or fortran:
            order = " in Fortran order" if fortran else ""
            raise CacheError(f"{path}: expected {WANTED[kind]} in C order, found {self.dtype}{order}")
        claimed = self._offset + self.rows * self.row_bytes
        if not self.shape or found != claimed:
            raise CacheError(
                f"{path}: expected {claimed:,} bytes for its shape {self.shape} of {self.dtype}, found {found:,}: "
                "copied only in part?"
            )

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.shape[0] if self.shape else 0

    @property
    def row_bytes(self) -> int:
        """How many bytes a row has."""
        size = self.dtype.itemsize
        for axis in self.shape[1:]:
            size *= axis
        return size

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the file, 64 hex digits."""
        with store.open_regular(self.path.resolve()) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, begin: int, stop: int) -> np.ndarray:
        """Return the rows from `begin` to `stop`, in a fresh array."""
        rows = np.empty((stop - begin, *self.shape[1:]), self.dtype)
        target, position = rows.reshape(-1).view(np.uint8).data, self._offset + begin * self.row_bytes
        with store.open_regular(self.path.resolve()) as descriptor:
            while target:
                count = os.preadv(descriptor, [target], position)
                if count == 0:
                    raise CacheError(f"{self.path} was cut short while it was read")
                target, position = target[count:], position + count
        return rows

    def _header(self, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"version {version}")
            return read[version](file)
        except (ValueError, OSError) as error:
            first = str(error).splitlines()[0]
            raise CacheError(f"{self.path}: expected a .npy file of version 1 or 2, found none: {first}") from error


class Rows:
    """Several arrays one after the other, as one: those of the splits."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        self._starts = np.cumsum([0, *(array.rows for array in arrays)])
        self._step = max(1, BLOCK // max(1, arrays[0].row_bytes))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape after the row axis."""
        return self.arrays[0].shape[1:]

    def blocks(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the given rows (n,), which ascend, in blocks: which of the n they are, and their values (m, ...)."""
        begin = 0
        while begin < len(rows):
            stop = int(np.searchsorted(rows, rows[begin] + self._step))
            values = self._between(int(rows[begin]), int(rows[stop - 1]) + 1)
            inside = rows[begin:stop] - rows[begin]
            yield slice(begin, stop), values if len(inside) == len(values) else values[inside]
            begin = stop

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the given rows (n,), which ascend: (n, ...)."""
        blocks = [values for _, values in self.blocks(rows)]
        return np.concatenate(blocks) if blocks else np.empty((0, *self.shape), self.arrays[0].dtype)

    def where(self, row: int) -> str:
        """Return what messages call a row: its file, and its number there."""
        place = int(np.searchsorted(self._starts, row, "right")) - 1
        return f"{self.arrays[place].path}: row {row - int(self._starts[place])}"

    def _between(self, begin: int, stop: int) -> np.ndarray:
        found = []
        for array, start in zip(self.arrays, self._starts, strict=False):
            first, last = max(begin - start, 0), min(stop - start, array.rows)
            if first < last:
                found.append(array.read(int(first), int(last)))
        return found[0] if len(found) == 1 else np.concatenate(found)
