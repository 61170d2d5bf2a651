"""The columns of a synthetic cache, some rows at a time: 6,000,000 vectors at once would take 5 GB and more."""

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cache.edges import EDGES
from cache.kinds import KINDS
from cache.names import ColumnName
from cache.schema import HOMES, SEQUENCES

if TYPE_CHECKING:
    from cache.writing.synth import Synthetic

TOKENS = (8, 32)  # of a sentence: fewest, most
BOTH_SIDES = ("states", "patches")  # kinds of many vectors a row, of which mentions' resemble entities'
RESEMBLING = 1 << 15  # mentions whose golds' vectors are held: all entities' are made once for each so many

Make = Callable[[int, int], np.ndarray]  # of the rows from one to another, asked for in order
Spec = tuple[str, tuple[int, ...]]  # type, and shape after the row axis


class Columns:
    """Candidates, gold and splits, and from them every column, so many rows at a time."""

    def __init__(self, wanted: "Synthetic", rows: int) -> None:
        self._wanted, self._at_once = wanted, rows
        rng = self._rng("lists")
        n, e, c = wanted.mentions, wanted.entities, wanted.candidates
        # distinct within a row: c steps of one random stride each, modulo e, never longer than e / c
        strides = rng.integers(1, max(2, e // c + 1), (n, c))
        strides[:, 0] = rng.integers(0, e, n)
        self.candidates = (strides.cumsum(1) % e).astype(np.int32)
        self.gold = rng.integers(0, c, n).astype(np.int32)
        self.gold_row = self.candidates[np.arange(n), self.gold]
        borders = np.cumsum([round(n * share) for share in wanted.shares[:2]])
        self.splits = (1 << np.searchsorted(borders, rng.permutation(n), side="right")).astype(np.uint8)
        rng = self._rng("sequences")  # every mention has a sentence of its own
        self.counts = rng.integers(TOKENS[0], TOKENS[1] + 1, n).astype(np.int32)
        self.starts = rng.integers(1, self.counts - 2).astype(np.int32)
        self._entity_counts = self._rng("entity sequences").integers(TOKENS[0], TOKENS[1] + 1, e).astype(np.int32)

    def counts_of(self, table: str) -> np.ndarray:
        """Return how many tokens each row of a table has, (N,) or (E,) int32."""
        return self._entity_counts if table == "entity" else self.counts

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        if table in SEQUENCES:
            return int(self.counts_of(HOMES[table]).sum())
        return self._wanted.entities if table == "entity" else self._wanted.mentions

    def blocks(self, name: ColumnName, spec: Spec) -> Iterator[np.ndarray]:
        """Yield a column, some rows at a time."""
        count, make = self.rows(name.table), self._made(name, spec)
        for begin in range(0, count, self._at_once):
            yield make(begin, min(begin + self._at_once, count))

    def _made(self, name: ColumnName, spec: Spec) -> Make:
        """Return what makes the rows of a column."""
        (part, column), (dtype, shape), rng = name.apart(), spec, self._rng(name)
        if (known := self._known(name)) is not None:
            return lambda begin, end: known[begin:end]
        if name == "pair.candidates.lexical_gold":
            lexical = self._made(part.column("lexical"), spec)
            return lambda begin, end: lexical(begin, end)[np.arange(end - begin), self.gold[begin:end]]
        if dtype == "|b1":
            return lambda begin, end: np.ones(end - begin, bool)
        if column == "labels":
            return lambda begin, end: rng.integers(1, 4, (end - begin, *shape)).astype(np.int32)
        if name == "entity.ids.name":
            return lambda begin, end: np.array([f"s{row}" for row in range(begin, end)], dtype)
        if name == "mention.ids.surface":  # without signal strings tell nothing of gold
            named = self.gold_row if self._wanted.signal else rng.integers(0, 100, self._wanted.mentions)
            return lambda begin, end: np.array([f"s{row}" for row in named[begin:end]], dtype)
        if part == "pair.alignment" or column == "lexical":
            return lambda begin, end: self._edges(name, rng, begin, end)
        if column.endswith("_probabilities"):
            return lambda begin, end: rng.uniform(0, 1, (end - begin, *shape)).astype(dtype)
        return self._vectors(name, shape, rng)

    def _known(self, name: ColumnName) -> np.ndarray | None:
        """Return a column that is held whole."""
        fixed: dict[str, np.ndarray] = {
            "mention.ids.splits": self.splits,
            "mention.ids.gold": self.gold_row,
            "pair.candidates.candidates": self.candidates,
            "pair.candidates.gold": self.gold,
            "mention.tokens.start": self.starts,
            "mention.tokens.end": self.starts + 2,
        }
        part, column = name.apart()
        if name not in fixed and part in SEQUENCES.values():
            counts = self.counts_of(part.table)
            return counts if column == "count" else (counts.cumsum() - counts).astype(np.int32)
        return fixed.get(name)

    def _edges(self, name: ColumnName, rng: np.random.Generator, begin: int, end: int) -> np.ndarray:
        values = rng.uniform(0, 0.1, self.candidates[begin:end].shape).astype(np.float32)
        if name.column in EDGES:  # the lexical score stays noise
            values[np.arange(len(values)), self.gold[begin:end]] += np.float32(self._wanted.signal)
        return np.minimum(values, np.float32(1))  # as every cosine

    def _vectors(self, name: ColumnName, shape: tuple[int, ...], rng: np.random.Generator) -> Make:
        """Return what makes Gaussian noise, and rows that resemble an entity's vector."""
        part, column = name.apart()
        source, signal = KINDS[part].like.get(column), min(1.0, self._wanted.signal)
        if source is None and part.kind in BOTH_SIDES and column == "vector":
            source = part.kind  # a vector of the entity that no column holds
        if source is None:
            return lambda begin, end: rng.standard_normal((end - begin, *shape), np.float32).astype(np.float16)
        resembled = self._resembled(source, name.table, shape[-1])
        wide = (1,) * (len(shape) - 1)  # every region and every object resembles the entity's one vector

        def make(begin: int, end: int) -> np.ndarray:
            noise = rng.standard_normal((end - begin, *shape), np.float32)
            values: np.ndarray = (np.sqrt(1 - signal) * noise).astype(np.float16)
            if signal:
                values += np.sqrt(signal) * resembled(begin, end).reshape(end - begin, *wide, shape[-1])
            return values

        return make

    def _resembled(self, source: str, table: str, width: int) -> Make:
        """Return what gives the vector of an entity that each row of a table resembles, float32 (n, width).

        A token resembles what its mention or entity does.
        """
        home = HOMES.get(table, table)
        ends = self.counts_of(home).cumsum(dtype=np.int64) if table in SEQUENCES else None
        group = _Ahead(self._normal(source, width)) if home == "entity" else _Golds(self, source, width)

        def vectors(begin: int, end: int) -> np.ndarray:
            rows = np.arange(begin, end)
            return group.of(rows if ends is None else np.searchsorted(ends, rows, "right"))

        return vectors

    def _normal(self, name: str, width: int) -> Iterator[np.ndarray]:
        """Yield the entities' rows of Gaussian noise, float32 (n, width)."""
        rng = self._rng(name)
        for begin in range(0, self._wanted.entities, self._at_once):
            yield rng.standard_normal((min(self._at_once, self._wanted.entities - begin), width), np.float32)

    def golds_vectors(self, source: str, width: int, golds: np.ndarray) -> np.ndarray:
        """Return the noise of some entities (n,), float32 (n, width)."""
        found, begin = np.zeros((len(golds), width), np.float32), 0  # of no entity: nothing
        for rows in self._normal(source, width):
            mine = np.flatnonzero((golds >= begin) & (golds < begin + len(rows)))
            found[mine] = rows[golds[mine] - begin]
            begin += len(rows)
        return found

    def _rng(self, name: str) -> np.random.Generator:
        seed = int.from_bytes(hashlib.sha256(f"{self._wanted.seed} {name}".encode()).digest()[:8], "little")
        return np.random.default_rng(seed)


class _Ahead:
    """Rows of blocks that are asked for in ascending order."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self._blocks, self._begin, self._held = blocks, 0, np.empty((0, 0), np.float32)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (n,), ascending, none before those asked for before."""
        while rows[-1] >= self._begin + len(self._held):
            more, first = next(self._blocks), int(rows[0]) - self._begin
            self._held = np.concatenate([self._held.reshape(-1, more.shape[1])[first:], more])
            self._begin += first
        found: np.ndarray = self._held[rows - self._begin]
        return found


class _Golds:
    """The vectors of the golds of mentions that are asked for in ascending order."""

    def __init__(self, columns: Columns, source: str, width: int) -> None:
        self._columns, self._source, self._width = columns, source, width
        self._begin, self._held = 0, np.empty((0, width), np.float32)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return those of mention rows (n,), ascending, none before those asked for before."""
        if rows[-1] >= self._begin + len(self._held):
            self._begin = int(rows[0])
            golds = self._columns.gold_row[self._begin : max(self._begin + RESEMBLING, int(rows[-1]) + 1)]
            self._held = self._columns.golds_vectors(self._source, self._width, golds)
        found: np.ndarray = self._held[rows - self._begin]
        return found
