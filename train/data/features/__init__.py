"""The vectors of mentions and entities where they lie, gathered by row; and where the tokens of sentences lie."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cache import Reader, kinds
from cache.names import ColumnName
from cache.schema import HOMES, SEQUENCES
from train.data.features.feature_column import Feature, Gathered, choose
from train.data.features.sequences import Sequences
from train.data.resident import Resident


class Features:
    """Feature columns of a cache, which lie where `resident` says, and sequences, by their table.

    `tokens` bounds the length of sequences; of strings, so many `characters` of their UTF-8 bytes are features.
    """

    def __init__(self, resident: str, device: torch.device, tokens: int, characters: int) -> None:
        self.resident, self.device = resident, device
        self._tokens, self._characters = tokens, characters
        self._columns: dict[str, Feature] = {}
        self._sequences: dict[str, Sequences] = {}

    @classmethod
    def of(
        cls,
        reader: Reader,
        names: Sequence[str],
        resident: Resident,
        device: torch.device,
        tokens: int,
        characters: int,
        unread: Iterable[str],
    ) -> tuple[Self, dict[str, Tensor]]:
        """Return the features among columns of a cache, and the others as tensors in host memory, but those `unread`.

        Raises ConfigError if the features do not fit where they should lie.
        """
        features = [name for name in names if _is_feature(reader, name, characters)]
        found = cls(choose(resident, sum(map(reader.stored_bytes, features)), device), device, tokens, characters)
        left = {*unread, *(features if found.resident == "mmap" else ())}
        loaded = reader.stored([name for name in names if name not in left])
        for name in features:
            pieces = reader.pieces(name) if found.resident == "mmap" else [(0, loaded.pop(name))]
            found._columns[name] = found._column(name, pieces, loaded)
        small = {name: torch.from_numpy(_numbers(column)) for name, column in loaded.items()}
        found._sequences = {
            table: Sequences(small, part, reader.manifest.tables.get(table, 0), tokens, device)
            for table, part in SEQUENCES.items()
            if f"{part}.first" in small
        }
        return found, small

    def with_mentions(self, columns: Mapping[str, np.ndarray]) -> tuple["Features", dict[str, Tensor]]:
        """Return the same features of entities, but other ones of mentions; and their small columns, in host memory.

        `columns` are all that is read of mentions (n, ...) and of their tokens.
        """
        other = Features(self.resident, self.device, self._tokens, self._characters)
        new = {name: self._column(name, [(0, held)], columns) for name, held in columns.items() if name in self}
        small = {name: torch.from_numpy(held) for name, held in columns.items() if name not in new}
        other._columns = self._columns | new
        other._sequences = self._sequences | {
            table: Sequences(small, SEQUENCES[table], tokens, self._tokens, self.device, self._sequences[table].length)
            for table, tokens in {ColumnName(name).table: feature.count for name, feature in new.items()}.items()
            if table in self._sequences
        }
        return other, small

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    @property
    def names(self) -> list[str]:
        """The feature columns."""
        return [*self._columns]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return the rows of each column, and how many numbers each row holds."""
        return {name: (feature.count, feature.numbers) for name, feature in self._columns.items()}

    def take(self, columns: Iterable[str], rows: Tensor) -> dict[str, Tensor]:
        """Return columns of the rows (n,), host memory, of their tables; as float32 on the device."""
        where = rows.to(self.device)
        found = {name: self._columns[name].take(where if self.resident == "device" else rows) for name in columns}
        return {name: _widened(column.to(self.device).values()) for name, column in found.items()}

    def gather(self, mentions: Tensor, entities: Tensor, without: tuple[str, ...]) -> dict[str, Gathered]:
        """Return rows of all columns as they are stored, but of those whose names begin with one of `without`."""
        found = {}
        for name, feature in self._columns.items():
            if not name.startswith(without):
                sequences = self._sequences.get(ColumnName(name).table)
                own = entities if of_entities(name) else mentions
                found[name] = feature.take(own if sequences is None else sequences.rows(own))
        return found

    def finished(self, found: Mapping[str, Gathered], mentions: Tensor, entities: Tensor) -> dict[str, Tensor]:
        """Return gathered rows on the device, float32 after the gather, not before; of sequences also `present`."""
        features = {name: _widened(rows.to(self.device).values()) for name, rows in found.items()}
        for name in [name for name in features if ColumnName(name).table in self._sequences]:
            there = self._sequences[ColumnName(name).table].present(entities if of_entities(name) else mentions)
            features[name] = features[name].masked_fill(~there[..., None], 0)
            features[ColumnName(name).part.column("present")] = there
        return features

    def _column(self, name: str, pieces: Sequence[tuple[int, Any]], columns: Mapping[str, Any]) -> Feature:
        """Return a feature column of pieces; `columns` say whose picture is missing."""
        full = ColumnName(name)
        absent = ~columns[f"{full.part}.present"] if kinds.neutral(full) else None
        pieces = [(start, _bytes(rows, self._characters)) for start, rows in pieces]
        return Feature(pieces, absent, self.resident, self.device)


def of_entities(name: str) -> bool:
    """Whether a column is of entities or of their tokens."""
    table = ColumnName(name).table
    return HOMES.get(table, table) == "entity"


def _is_feature(reader: Reader, name: str, characters: int) -> bool:
    """Whether a column holds a vector of floats for every mention or entity, or a string that is read as bytes."""
    if reader.dtype(name).kind == "S":
        return characters > 0
    return ColumnName(name).table != "pair" and reader.dtype(name).kind == "f" and len(reader.shape(name)) > 1


def _numbers(column: np.ndarray) -> np.ndarray:
    """Return a column as it is, or strings as the places of their sorted distinct values."""
    return np.unique(column, return_inverse=True)[1] if column.dtype.kind == "S" else column


def _bytes(rows: np.ndarray, characters: int) -> np.ndarray:
    """Return rows as they are, of strings (n,) their first bytes (n, L) uint8."""
    if rows.dtype.kind != "S":
        return rows
    return rows.view(np.uint8).reshape(len(rows), -1)[:, :characters]


def _widened(feature: Tensor) -> Tensor:
    """Return floats as float32, bytes as they are."""
    return feature.float() if feature.is_floating_point() else feature
