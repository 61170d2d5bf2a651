"""A cache's columns as tensors; a batch is a gather by row, on the device or ahead of it in a thread."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from cache.edges import EDGES
from cache.names import ColumnName
from cache.schema import SEQUENCES, UNLABELED
from common.errors import CacheError
from common.records import SPLITS
from train.data.ambiguity import matches
from train.data.batch import CANDIDATES, Batch
from train.data.features import Features, of_entities
from train.data.features.feature_column import Gathered
from train.data.features.sequences import select_rows
from train.data.resident import Resident
from train.data.splits import masks
from train.data.string_facts import NAME, STRINGS, StringFacts

# they say what a batch is, not what is in it
NOT_IN_BATCH = (
    "mention.ids.",
    CANDIDATES,
    "pair.candidates.gold",
    "pair.candidates.lexical_gold",
    *(f"{part}.{column}" for part in SEQUENCES.values() for column in ("first", "count")),
)
LEXICAL = "pair.candidates.lexical"
AHEAD = 2  # batches that are gathered while one is computed


class Table:
    """The columns that a head reads, and `more`: features where `resident` says, what belongs to pairs on the device.

    `places` of each list are ranked: all of a cache's, which has `mention_count` and `entity_count` rows. Batches say
    which entities stand there if `more` names them.
    `ambiguous` (N,), in host memory, is of the cache's own lists. `tokens` bounds the length of sequences. With
    `characters` strings are features too: so many of their UTF-8 bytes, 0 behind the last; `valid_from` is
    --valid-from, `reads` as in Reader.require; with `strings` batches hold string_facts. Raises CacheError if a column
    is missing or gold is not where it is said to be, ConfigError if the features do not fit where they should lie.
    """

    def __init__(
        self,
        reader: Reader,
        head: str,
        device: torch.device,
        resident: Resident = "auto",
        more: tuple[str, ...] = (),
        tokens: int = 0,
        characters: int = 0,
        valid_from: str | None = None,
        reads: tuple[str, ...] | None = None,
        *,
        strings: bool = False,
    ) -> None:
        names = reader.require(head, more, reads)
        self.device, self.path = device, reader.path
        self.recipes = {name: part.recipe for name, part in reader.manifest.parts.items()}
        self._names_candidates = CANDIDATES in more
        unread = {NAME} if strings else ()  # what strings say of an entity they read by themselves
        self._features, self._small = Features.of(reader, names, resident, device, tokens, characters, unread)
        self._splits = torch.from_numpy(masks(reader, valid_from))
        self._labeled = self._small["pair.candidates.gold"] > UNLABELED
        of_train = (self._splits & 1).bool() & self._labeled
        self._strings = StringFacts(reader, of_train, device) if strings else None
        self._host_candidates = self._small["pair.candidates.candidates"]
        self._small = {name: column.to(device) for name, column in self._small.items()}
        self.candidates = self._small["pair.candidates.candidates"]
        self.gold = self._small["pair.candidates.gold"].long().clamp(min=-1)
        self.present, self.places = self.candidates >= 0, self.candidates.shape[1]
        self.lexical = self._small["pair.candidates.lexical"]
        self.ambiguous = torch.from_numpy(matches(self.candidates.cpu().numpy(), self.lexical.cpu().numpy()) > 1)
        self.mention_count, self.entity_count = (reader.manifest.tables[name] for name in ("mention", "entity"))
        self._check_golds()
        self._rows = self._by_row()

    @property
    def resident(self) -> str:
        """Where the features lie: device, host or mmap."""
        return self._features.resident

    def _check_golds(self) -> None:
        """Raise CacheError, naming the row, where gold is padding, or another entity than the mention's gold."""
        rows = (self.gold >= 0).nonzero()[:, 0]
        found = self.candidates[rows, self.gold[rows]]
        golds = self._small.get("mention.ids.gold")
        wrong = (found < 0) if golds is None else (found != golds[rows])
        if wrong.any():
            row = int(rows[wrong][0])
            place, entity = int(self.gold[row]), int(self.candidates[row, self.gold[row]])
            there = "padding" if entity < 0 else f"entity {entity}, and mention.ids.gold is {int(golds[row])}"
            raise CacheError(
                f"column pair.candidates.gold of {self.path} holds {place} in row {row}, which is {there}: the program "
                "that wrote it was wrong. Extract the cache again, or pull it again"
            )

    def rows(self, split: str) -> Tensor:
        """Return the rows of a split's labeled mentions, (n,) int64 in host memory: others are in no loss or metric."""
        return (self._within(split) & self._labeled).nonzero()[:, 0]

    def unlabeled(self, split: str) -> int:
        """Return how many mentions of a split are not labeled."""
        return int((self._within(split) & ~self._labeled).sum())

    def column(self, name: str) -> Tensor:
        """Return a small column on the device; equal strings are equal numbers."""
        return self._small[name]

    def trainable(self, rows: Tensor, *, without_gold: bool = False) -> Tensor:
        """Return those rows that a ranking loss can learn from: gold and at least one other candidate there.

        `without_gold`: a loss that also learns from mentions whose gold is not; they need a candidate.
        """
        there = rows.to(self.device)
        count = self.present[there].sum(1)
        return rows[(count > 0 if without_gold else (self.gold[there] >= 0) & (count > 1)).cpu()]

    def batches(self, groups: Iterable[Tensor], without: tuple[str, ...] = ()) -> Iterator[Batch]:
        """Yield a batch for each group of mention rows, (B,) or (S, B); row -1 is a mention without candidates.

        Features whose names begin with one of `without` are left out.
        """
        if self.resident == "device":
            yield from (self.batch(rows.to(self.device), without) for rows in groups)
            return
        with ThreadPoolExecutor(1) as pool:
            coming: deque[tuple[Any, ...]] = deque()
            for rows in groups:
                wanted = _wanted(rows, self._host_candidates)
                coming.append((rows, *wanted, pool.submit(self._features.gather, *wanted, without)))
                if len(coming) > AHEAD:
                    yield self._finished(*coming.popleft())
            while coming:
                yield self._finished(*coming.popleft())

    def batch(self, rows: Tensor, without: tuple[str, ...] = ()) -> Batch:
        """Gather the mentions in `rows`, (B,) or (S, B); where the features lie on the device, nothing waits for it."""
        mentions, entities = _wanted(rows, self.candidates)
        if self.resident == "device":
            return self._batch(rows, mentions, entities, self._features.gather(mentions, entities, without))
        return self._batch(rows, mentions, entities, self._features.gather(mentions.cpu(), entities.cpu(), without))

    def facts(self, mentions: Tensor, entities: Tensor) -> tuple[Tensor, Tensor]:
        """Return what strings say of every mention (b,) with every entity (c,), (b, c, facts), and their score (b, c).

        Rows are on the device; only with `strings`.
        """
        assert self._strings is not None, "asked for"
        return self._strings.of(mentions, entities), self._strings.lexical(mentions, entities)

    def with_lists(self, candidates: Tensor, gold: Tensor, pairs: Mapping[str, Tensor], unranked: int = 0) -> "Table":
        """Return a table of the same features, but with other lists, all on the device.

        candidates (N, C) int32, -1 = padding; gold (N,) position of gold or -1; pairs: all that a batch holds of them.
        Entities in the last `unranked` places have features in a batch, but are not `present`.
        """
        other = copy.copy(self)
        other.candidates, other.gold, other.places = candidates, gold, candidates.shape[1] - unranked
        other.present = (candidates >= 0) & (torch.arange(candidates.shape[1], device=self.device) < other.places)
        other._host_candidates = candidates.cpu()
        other._rows = {name: column for name, column in self._rows.items() if not _of_pairs(name)} | pairs
        other.lexical = other._rows.get("pair.candidates.lexical", candidates.new_zeros(0))
        return other

    def with_mentions(
        self,
        columns: Mapping[str, np.ndarray],
        strings: Sequence[str],
        rows: Tensor,
        candidates: Tensor,
        pairs: Mapping[str, Tensor],
    ) -> "Table":
        """Return a table of the same entities, but of other mentions, which are in no split and not labeled.

        `columns` are those that the table reads of mentions (n, ...) and of their tokens, `strings` (n,) the mentions'
        own, `rows` (n,) those that they have in this table, -1 = none; lists and pairs as in `with_lists`.
        """
        other = copy.copy(self)
        other._features, small = self._features.with_mentions({name: columns[name] for name in self.mention_columns})
        small = {name: held.to(self.device) for name, held in small.items()}
        other._small = self._small | small
        other._rows = self._rows | {name: held for name, held in small.items() if name in self._rows}
        count = len(candidates)
        other._splits, other._labeled = torch.zeros(count, dtype=torch.uint8), torch.zeros(count, dtype=torch.bool)
        other.ambiguous = torch.zeros(count, dtype=torch.bool)
        if self._strings is not None:
            other._strings = self._strings.with_mentions(strings, rows, candidates, pairs[LEXICAL])
        return other.with_lists(candidates, torch.full((count,), -1, device=self.device), pairs)

    @property
    def mention_columns(self) -> list[str]:
        """The columns of mentions and of their tokens that batches are made of."""
        named = [name for name in self._small if not _of_pairs(name) and not name.startswith(NOT_IN_BATCH[0])]
        return [name for name in (*self._features.names, *named) if not of_entities(name)]

    def pairs(self) -> dict[str, Tensor]:
        """Return what batches hold of pairs, (N, C, ...)."""
        return {name: column for name, column in self._rows.items() if _of_pairs(name)}

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return the rows of each feature column, and how many numbers each row holds."""
        return self._features.sizes()

    def features(self, columns: Iterable[str], rows: Tensor) -> dict[str, Tensor]:
        """Return feature columns of the rows (n,), host memory, of their tables; as float32 on the device."""
        return self._features.take(columns, rows)

    def _within(self, split: str) -> Tensor:
        return (self._splits >> SPLITS.index(split) & 1).bool()

    def _by_row(self) -> dict[str, Tensor]:
        """Return the small columns that a batch holds; the four alignments as one, (N, C, 2, 2)."""
        kept = {name: column for name, column in self._small.items() if not name.startswith(NOT_IN_BATCH)}
        edges = [kept.pop(edge.column) for edge in EDGES if edge.column in kept]
        if edges:
            kept["pair.alignment"] = torch.stack(edges, -1).unflatten(-1, (2, 2))
        return kept

    def _finished(self, rows: Tensor, mentions: Tensor, entities: Tensor, found: Future[dict[str, Gathered]]) -> Batch:
        there = [x.to(self.device, non_blocking=True) for x in (rows, mentions, entities)]
        return self._batch(*there, found.result())

    def _batch(self, rows: Tensor, mentions: Tensor, entities: Tensor, found: dict[str, Gathered]) -> Batch:
        features = self._features.finished(found, mentions, entities)
        small = {
            name: select_rows(column, entities if of_entities(name) else mentions)
            for name, column in self._rows.items()
        }
        if self._strings is not None:
            small[STRINGS] = self._strings.of(mentions, entities)
            if LEXICAL not in small:  # of other lists than the cache's
                small[LEXICAL] = self._strings.lexical(mentions, entities)
        if self._names_candidates:
            small[CANDIDATES] = select_rows(self.candidates, mentions)
        gold = select_rows(self.gold, mentions).masked_fill(rows < 0, -1)
        present = select_rows(self.present, mentions) & (rows >= 0)[..., None]
        return Batch(features | small, present, gold)


def _of_pairs(name: str) -> bool:
    return ColumnName(name).table == "pair"


def _wanted(rows: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mention rows (..., B) and entity rows (..., B, C) to read; of padding any, `present` masks it."""
    mentions = rows.clamp(min=0)
    return mentions, select_rows(candidates, mentions).clamp(min=0).long()
