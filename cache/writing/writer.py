"""Build one shard in memory, prove it whole and finite, and publish it.

The file is ordinary HDF5 with contiguous datasets at 64-byte offsets under the root group: no filters, no
variable-length types, no attributes. h5py writes into memory only; the disk sees one finished buffer.
"""

import copy
import functools
import hashlib
import io
import json
import math
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from cache import fingerprint, kinds, quantized, store
from cache.kinds import KINDS
from cache.manifests.entries import PartEntry, ShardEntry, Span, Spec
from cache.names import PartName
from cache.quantized import Kind, Storage
from cache.schema import VERSION
from cache.writing import checksums, extremes
from common.errors import CacheError, NotFiniteError
from common.paths import status

ALIGNMENT = 64
HEADER_BYTES, COLUMN_BYTES = 2048, 512  # at most what an HDF5 file of ours has beside its values, and per column


@dataclass(frozen=True)
class PartPlan:
    """What one producer writes for one table.

    `recipe` is everything that decides the numbers (JSON values), `inputs` the fingerprints of the parts it
    derives from, `columns` name -> (numpy dtype string, shape after the row axis). With `storage` its vectors
    (kinds.quantizable) are stored as such codes, and `columns` says how they are read.
    """

    name: PartName
    recipe: dict[str, Any]
    columns: dict[str, tuple[str, tuple[int, ...]]]
    inputs: dict[str, str] = field(default_factory=dict)
    storage: Kind | None = None

    @cached_property
    def quantized(self) -> dict[str, Kind]:
        """How those columns are stored that are stored as codes."""
        there = kinds.quantizable(self.name) if self.storage else ()
        return {name: self.storage for name in there if self.storage and name in self.columns}

    @cached_property
    def stored(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The columns of its files: as `columns`, but codes and their scales where vectors are stored as these."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, (dtype, shape) in self.columns.items():
            kind = self.quantized.get(name)
            found |= quantized.stored(name, kind, shape) if kind else {name: (dtype, shape)}
        return found

    @cached_property
    def manifest_entry(self) -> PartEntry:
        """The part as it stands in the manifest; the recipe includes the stored columns and the format."""
        widths = {name: self.columns[name][1][-1] for name in self.quantized}
        specs = {name: Spec(dtype, tuple(shape), widths.get(name)) for name, (dtype, shape) in self.stored.items()}
        columns = {name: spec.as_json() for name, spec in specs.items()}
        recipe = json.loads(fingerprint.canonical({**self.recipe, "columns": columns, "format": VERSION}))
        return PartEntry(recipe, self.inputs, fingerprint.digest({"recipe": recipe, "inputs": self.inputs}), specs)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the recipe and the inputs."""
        return self.manifest_entry.fingerprint

    @property
    def table(self) -> str:
        """The table whose rows the part has."""
        return self.name.table


@dataclass(frozen=True)
class ShardPlan:
    """A run of rows of a part, named by what it must hold."""

    part: PartPlan
    index: int
    start: int
    rows: int
    key: str

    @property
    def file(self) -> str:
        """The shard's file name."""
        return f"{self.part.name}-{self.index:05d}.{self.key[:12]}.h5"

    @property
    def most_bytes(self) -> int:
        """The most bytes that its file can have."""
        columns = self.part.stored.values()
        row_bytes = sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in columns)
        return HEADER_BYTES + COLUMN_BYTES * len(columns) + self.rows * row_bytes


@dataclass(frozen=True)
class Todo:
    """A range of rows of a table, by its index, and the shards of it that are missing."""

    table: str
    index: int
    missing: list[ShardPlan]


class Shard:
    """The rows of one shard while they are being computed.

    `name_row` turns a row of the table into words for error messages.
    """

    def __init__(self, plan: ShardPlan, name_row: Callable[[int], str] = str) -> None:
        self.plan = plan
        self._name_row = name_row
        self._arrays = {name: np.zeros((plan.rows, *shape), dtype) for name, (dtype, shape) in plan.part.stored.items()}
        self._written = {name: np.zeros(plan.rows, bool) for name in plan.part.columns}

    def put(self, column: str, rows: Any, values: Any) -> None:
        """Store values (n, ...) at rows (n,) counted from the shard's start.

        Raises, naming the row, NotFiniteError for NaN, infinity, or a number too large for the stored type, and
        CacheError for an integer or a string that does not fit its column.
        """
        dtype = np.dtype(self.plan.part.columns[column][0])
        values = np.asarray(values)
        if dtype.kind == "f":
            values = self._finite(column, rows, values, dtype)
        elif values.dtype != dtype and values.dtype.kind != "f":
            values = self._fitting(column, rows, values)
        if kind := self.plan.part.quantized.get(column):
            values, self._arrays[column + quantized.SCALE][rows] = quantized.encode(values, kind)
        self._arrays[column][rows] = values
        self._written[column][rows] = True

    def get(self, column: str, rows: Any) -> np.ndarray:
        """Return stored values of rows counted from the shard's start, vectors that are stored as codes as float32."""
        found: np.ndarray = self._arrays[column][rows]
        if column not in self.plan.part.quantized:
            return found
        return quantized.decode(
            found, self._arrays[column + quantized.SCALE][rows], self.plan.part.columns[column][1][-1]
        )

    def cut(self, plan: ShardPlan) -> "Shard":
        """Return the rows of `plan`, which are some of this shard's, as a shard that shares their memory."""
        piece = copy.copy(self)
        rows = slice(plan.start - self.plan.start, plan.start - self.plan.start + plan.rows)
        piece.plan = plan
        piece._arrays = {name: array[rows] for name, array in self._arrays.items()}
        piece._written = {name: written[rows] for name, written in self._written.items()}
        return piece

    def check_whole(self) -> None:
        """Raise CacheError for a row that was never stored."""
        for column, written in self._written.items():
            if not written.all():
                missing = self._name_row(self.plan.start + int(np.flatnonzero(~written)[0]))
                raise CacheError(f"{self.plan.part.name}.{column}: {missing} was never written; this is a bug")

    def _finite(self, column: str, rows: Any, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        with np.errstate(over="ignore"):  # an overflow becomes infinity and is named below
            stored = values.astype(dtype) if values.dtype != dtype else values
        finite = np.isfinite(stored)
        if not finite.all():
            bad = int(np.argwhere(~finite)[0, 0])
            row = self._name_row(self.plan.start + int(np.asarray(rows)[bad]))
            raise NotFiniteError(
                f"{self.plan.part.name}.{column} of {row} is not finite in {dtype.name} "
                f"(largest magnitude {np.abs(values[bad]).max():g}). Nothing was stored"
            )
        return stored

    def _fitting(self, column: str, rows: Any, values: np.ndarray) -> np.ndarray:
        dtype = self._arrays[column].dtype
        stored = values.astype(dtype)  # wraps integers and cuts strings without a word
        changed = stored != values
        if changed.any():
            bad = int(np.argwhere(changed)[0, 0])
            row = self._name_row(self.plan.start + int(np.asarray(rows)[bad]))
            raise CacheError(f"{self.plan.part.name}.{column} of {row} does not fit {dtype}. Nothing was stored")
        return stored

    def save(self, folder: Path) -> ShardEntry:
        """Publish the shard and its checksum, and return its manifest entry.

        If another extractor finished the same shard first, its file stays and its entry is returned.
        """
        self.check_whole()
        data, offsets = _build(self._arrays)
        entry, path = _entry(self.plan, data, offsets), folder / self.plan.file
        checksums.note(folder, path.name, entry.sha256)
        if store.publish(path, data, replace=False):
            return entry
        there = adopt(self.plan, folder)
        if there is not None and checksums.known(folder, path.name, there.sha256):
            return there
        store.publish(path, data, replace=True)  # what lies there is not this shard, or damaged
        return entry


def adopt(plan: ShardPlan, folder: Path) -> ShardEntry | None:
    """Return the manifest entry of a finished shard file, or None if there is none of exactly this layout.

    Whether its numbers are those that were written the layout cannot tell: compare `sha256` (cache.writing.checksums).
    libhdf5 never opens the file: outside its columns it must equal, byte for byte, the file that we would write.
    """
    path = folder / plan.file
    found = status(path, follow=False)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    size, offsets, outside = _frame(tuple(plan.part.stored.items()), plan.rows)
    if path.lstat().st_size != size:  # a sparse one may say any size
        return None
    data = store.read_regular(path, size)
    if len(data) != size or any(data[begin : begin + len(piece)] != piece for begin, piece in outside):
        return None
    entry = _entry(plan, data, offsets)
    limits = [limit for place in entry.columns.values() for limit in (place.min, place.max)]
    return entry if all(limit is None or np.isfinite(limit) for limit in limits) else None


@functools.lru_cache(maxsize=256)
def _frame(
    stored: tuple[tuple[str, tuple[str, tuple[int, ...]]], ...], rows: int
) -> tuple[int, dict[str, int], tuple[tuple[int, bytes], ...]]:
    """Return how long a file of such columns is, where they begin in it, and what is outside of them, by its place."""
    twin, offsets = _build({name: np.zeros((rows, *shape), dtype) for name, (dtype, shape) in stored})
    edges, pieces = 0, []
    for name, (dtype, shape) in sorted(stored, key=lambda column: offsets[column[0]]):
        pieces.append((edges, twin[edges : offsets[name]]))
        edges = offsets[name] + rows * np.dtype(dtype).itemsize * math.prod(shape)
    return len(twin), offsets, (*pieces, (edges, twin[edges:]))


def _build(arrays: dict[str, np.ndarray]) -> tuple[bytes, dict[str, int]]:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110", alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
        for name, array in arrays.items():
            text = array.dtype.kind == "S"
            dtype = h5py.string_dtype("utf-8", array.dtype.itemsize) if text else array.dtype
            file.create_dataset(name, data=array.astype(dtype) if text else array, track_times=False)
        file.flush()
        offsets = {name: file[name].id.get_offset() for name in arrays}
    return buffer.getvalue(), offsets


def _entry(plan: ShardPlan, data: bytes, offsets: dict[str, int]) -> ShardEntry:
    places = {}
    for name, (dtype, shape) in plan.part.stored.items():
        count = plan.rows * int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, dtype, count, offsets[name])
        numeric = array.dtype.kind in "fi" or name in ("image_status", "splits")
        ends = extremes.of(array) if numeric else (None, None)
        places[name] = Span(offsets[name], xxhash.xxh3_128_hexdigest(array.data.cast("B")), *ends)
    sha256 = hashlib.sha256(data).hexdigest()
    return ShardEntry(plan.part.name, plan.file, plan.start, plan.rows, len(data), sha256, plan.key, places)


def columns_of(
    part: str, sizes: dict[str, int], feature: str, only: tuple[str, ...] = ()
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return a part's columns with axes letters replaced by `sizes` and the feature type by `feature`.

    `sizes` also gives the bytes of string columns, by column name.  `only` keeps just those columns.
    """
    resolved = {}
    for name, column in KINDS[PartName(part)].columns.items():
        if only and name not in only:
            continue
        dtype = {"feature": feature, "S": f"|S{sizes.get(name, 1)}"}.get(column.dtype, column.dtype)
        shape = tuple(int(axis) if axis.isdigit() else 32 if axis == "*" else sizes[axis] for axis in column.axes)
        resolved[name] = (dtype, shape)
    return resolved


def codes_of(part: str, storage: Storage) -> Kind | None:
    """Return which codes a part's vectors are stored as, None where they are stored as numbers."""
    return {"int8": "int8", "int4": "int4"}.get(storage) if kinds.quantizable(part) else None  # type: ignore[return-value]


def feature_type(part: str, storage: Storage) -> str:
    """Return the type of which a part's features are read: float16 where only other parts are stored as codes."""
    return "<f4" if storage == "float32" or codes_of(part, storage) else "<f2"
