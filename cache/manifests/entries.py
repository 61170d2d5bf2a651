"""What a manifest says, as types: made of its checked JSON, and the same JSON again, key by key and in its order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np

from cache.fingerprint import digest
from cache.names import ColumnName, PartName
from cache.quantized import READ_TYPE, SCALE
from cache.schema import VERSION

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
UNKNOWN_TIME = "at an unknown time"


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """Which dataset a cache is of; `content` is the sha256 of all rows, whatever the encoders."""

    name: str
    content: str
    licence: str
    source: str

    def as_json(self) -> dict[str, Json]:
        """Return the entry as it stands in the file."""
        return {"content": self.content, "licence": self.licence, "name": self.name, "source": self.source}


@dataclass(frozen=True, slots=True)
class Spec:
    """A column's stored type, and its shape after the row axis.

    `width` is that of the vectors whose codes the column holds (cache.quantized), None where it holds what it says.
    """

    dtype: str
    shape: tuple[int, ...]
    width: int | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from checked JSON."""
        return cls(found["dtype"], tuple(found["shape"]), found.get("width"))

    @property
    def read(self) -> tuple[str, tuple[int, ...]]:
        """The type and shape that are read: of vectors where it holds codes."""
        return (self.dtype, self.shape) if self.width is None else (READ_TYPE, (*self.shape[:-1], self.width))

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def as_json(self) -> dict[str, Json]:
        """Return it as it stands in the file."""
        coded = {} if self.width is None else {"width": self.width}
        return {"dtype": self.dtype, "shape": list(self.shape), **coded}


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A part: its recipe, the fingerprints of the parts that it derives from, its own, and its columns by name."""

    recipe: Mapping[str, Json]
    inputs: Mapping[str, str]
    fingerprint: str
    columns: dict[str, Spec]

    @property
    def read(self) -> dict[str, Spec]:
        """The columns without the scales of codes, which are read with the codes."""
        scales = {name + SCALE for name, spec in self.columns.items() if spec.width is not None}
        return {name: spec for name, spec in self.columns.items() if name not in scales}

    @property
    def origin(self) -> str:
        """The sha256 of what decides its numbers: recipe and inputs, whatever the stored types and lengths of lists."""
        recipe = {name: value for name, value in self.recipe.items() if name != "columns"}
        return digest({"recipe": recipe, "inputs": dict(self.inputs)})

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from checked JSON."""
        columns = {name: Spec.of(spec) for name, spec in found["columns"].items()}
        return cls(found["recipe"], found["inputs"], found["fingerprint"], columns)

    def as_json(self) -> dict[str, Json]:
        """Return the entry as it stands in the file."""
        return {
            "columns": {name: spec.as_json() for name, spec in self.columns.items()},
            "fingerprint": self.fingerprint,
            "inputs": self.inputs,
            "recipe": self.recipe,
        }


@dataclass(frozen=True, slots=True)
class Span:
    """Where a shard's rows of a column lie in its file: from which byte, their xxh3-128, their least and most."""

    offset: int
    xxh3: str
    min: float | None
    max: float | None

    def as_json(self) -> dict[str, Json]:
        """Return it as it stands in the file."""
        return {"max": self.max, "min": self.min, "offset": self.offset, "xxh3": self.xxh3}


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard: rows `start` and following of a part, their file, and what the file holds."""

    part: PartName
    file: str
    start: int
    rows: int
    bytes: int
    sha256: str
    key: str
    columns: dict[str, Span]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from checked JSON."""
        columns = {name: Span(**span) for name, span in found["columns"].items()}
        return cls(**{**found, "part": PartName(found["part"]), "columns": columns})

    @property
    def stop(self) -> int:
        """The first row behind it."""
        return self.start + self.rows

    def as_json(self) -> dict[str, Json]:
        """Return the entry as it stands in the file."""
        return {
            "bytes": self.bytes,
            "columns": {name: span.as_json() for name, span in self.columns.items()},
            "file": self.file,
            "key": self.key,
            "part": self.part,
            "rows": self.rows,
            "sha256": self.sha256,
            "start": self.start,
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """How many seconds computing how many rows of a part took."""

    seconds: float
    rows: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """When, with what and how long a cache was made, which is not part of its id.

    `noted` is all that stands there, of any form; what has one is read by the properties.
    """

    noted: Mapping[str, Json]
    rates: dict[PartName, Rate]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from checked JSON."""
        return cls(found, {PartName(part): Rate(**noted) for part, noted in found.get("parts", {}).items()})

    @property
    def made(self) -> str:
        """The day and the time."""
        return str(self.noted.get("made", UNKNOWN_TIME))

    @property
    def seconds(self) -> float:
        """How long it took, 0 if it is not told."""
        seconds = self.noted.get("seconds", 0)
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def whole_id(self) -> str | None:
        """The id of the cache of which this is a part, None for a whole one."""
        of = self.noted.get("of")
        return of if isinstance(of, str) else None

    def seconds_of(self, part: str, rows: int) -> float | None:
        """Return how long computing so many rows of a part took, None where nothing is noted."""
        rate = self.rates.get(PartName(part))
        return rate.seconds * rows / rate.rows if rate and rate.rows else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a manifest says.  `tables`, `splits` and `coverage` count rows; `generations` those of each extraction.

    `generations` are entities and mentions, None of a limited extraction and of what was not extracted.
    """

    dataset: DatasetEntry
    tables: dict[str, int]
    candidates: int
    splits: dict[str, int]
    coverage: dict[str, int]
    warnings: tuple[str, ...]
    parts: dict[PartName, PartEntry]
    shards: tuple[ShardEntry, ...]
    provenance: Provenance
    id: str
    digest: str
    generations: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from JSON that `cache.manifests.check` has let pass."""
        generations = found.get("generations")
        return cls(
            DatasetEntry(**found["dataset"]),
            found["tables"],
            found["candidates"],
            found["splits"],
            found["coverage"],
            tuple(found["warnings"]),
            {PartName(name): PartEntry.of(part) for name, part in found["parts"].items()},
            tuple(map(ShardEntry.of, found["shards"])),
            Provenance.of(found["provenance"]),
            found["id"],
            found["digest"],
            None if generations is None else tuple((entities, mentions) for entities, mentions in generations),
        )

    @property
    def bytes(self) -> int:
        """The bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def columns(self) -> list[ColumnName]:
        """The full names of all columns that are read, part by part: scales are not, they are read with their codes."""
        return [part.column(name) for part, entry in self.parts.items() for name in entry.read]

    def column(self, name: str) -> Spec | None:
        """Return type and shape of a column by its full name, None where there is none."""
        part, column = ColumnName(name).apart()
        return self.parts[part].columns.get(column) if part in self.parts else None

    def shards_of(self, part: str) -> list[ShardEntry]:
        """Return the shards of a part, in order of rows."""
        return [shard for shard in self.shards if shard.part == part]

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as it stands in the file."""
        grown = {} if self.generations is None else {"generations": [list(rows) for rows in self.generations]}
        return {
            "candidates": self.candidates,
            "coverage": self.coverage,
            "dataset": self.dataset.as_json(),
            "digest": self.digest,
            "format": "melcache",
            **grown,
            "id": self.id,
            "parts": {name: part.as_json() for name, part in self.parts.items()},
            "provenance": self.provenance.noted,
            "shards": [shard.as_json() for shard in self.shards],
            "splits": self.splits,
            "tables": self.tables,
            "version": VERSION,
            "warnings": list(self.warnings),
        }
