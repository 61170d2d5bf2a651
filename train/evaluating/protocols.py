"""The four protocols: what each reads beside the head's own columns, and what it ranks gold among.

A `retrieved`: the mention's list; a gold that is not in it is a miss. D `given`: the same of mentions with gold in it.
B `injected`: the list, in all splits; gold is put in where it is missing, unless it is not in the knowledge base.
C `whole-kb`: all entities. Heads whose score is a cosine of two towers rank them all, and so does ours, which counts
for an unlisted entity the lowest string score of the list; others, and all with --rerank, re-rank the k best by
alignment score. Training is in the lists, as in A. String scores exist only for listed candidates, so the lexical
baseline always ranks the mention's list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cache import Reader
from cache.edges import ALIGNMENT, ALIGNMENT_READS
from cache.names import ColumnName
from common.output import say
from train.config import TrainConfig
from train.data.not_finite import naming_columns
from train.data.resident import Resident
from train.data.table import Table
from train.evaluating import computed_edges, whole_kb
from train.evaluating.ranking import AmongAll, Split, split_of
from train.heads.entry import Entry
from train.heads.registry import HEADS
from train.processes import World

COLUMNS = {
    "injected": ("mention.ids.gold", "pair.candidates.lexical_gold"),
    "whole-kb": ("mention.ids.gold",),
}


@dataclass(frozen=True)
class Ranking:
    """What a head ranks gold among under a protocol, with --rerank; features lie where `resident` says."""

    head: Entry
    protocol: str
    rerank: int = 0
    resident: Resident = "auto"

    @property
    def reranks(self) -> bool:
        """Whether the best entities of a first stage are re-ranked, not those of the lists and not all."""
        if self.protocol != "whole-kb" or self.head.name == "lexical":
            return False
        if self.rerank > 0 or not self.head.network:
            return self.rerank > 0
        model = self.head.model()
        return not (model.two_towers or model.adds_strings)

    @property
    def among(self) -> str:
        """What is ranked for a mention: its `list`, the `best` by alignment score, or `all` entities.

        Runs on one cache with the same options rank the same entities if this is the same.
        """
        if self.reranks:
            return "best"
        return "all" if self.protocol == "whole-kb" and self.head.name != "lexical" else "list"

    @property
    def reads_edges(self) -> bool:
        """Whether the head reads the edges between a mention and an entity."""
        return any(ColumnName(name).part == ALIGNMENT for name in self.head.reads)


def ranking_of(config: TrainConfig) -> Ranking:
    """Return what a run ranks gold among."""
    return Ranking(HEADS[config.model], config.protocol, config.rerank, config.resident)


def columns(ranking: Ranking, reader: Reader) -> tuple[str, ...]:
    """Return what the table holds for the protocol.  Raises CacheError if the cache lacks what the protocol reads."""
    held, name = COLUMNS.get(ranking.protocol, ()), ranking.head.name
    searched = ranking.reranks or (ranking.protocol == "injected" and ranking.reads_edges)
    read = (*held, *(ALIGNMENT_READS if searched else ()))
    reader.expect(read, name, f"{name} under --protocol {ranking.protocol}")
    return held


def splits(
    ranking: Ranking,
    reader: Reader,
    table: Table,
    world: World,
    complete: Callable[[Table], Table] = lambda table: table,
) -> dict[str, Split | AmongAll]:
    """Return valid and test, ready to be ranked; `complete` is done to lists other than the table's."""
    names = ("valid", "test")
    if ranking.among == "best":
        rows = torch.cat([table.rows(name) for name in names]).unique()
        table = complete(reranked(ranking, reader, table, rows, world))
    elif ranking.among == "all":
        return {name: AmongAll(table, table.rows(name)) for name in names}
    return {name: split_of(table, name, ranking.protocol) for name in names}


def injected(ranking: Ranking, reader: Reader, table: Table) -> Table:
    """Return the table with gold in every list whose mention has one."""
    gold = table.column("mention.ids.gold").long()
    rows, places = missing(table.candidates, table.gold, gold)
    candidates, positions = table.candidates.clone(), table.gold.clone()
    candidates[rows, places], positions[rows] = gold[rows].to(candidates.dtype), places
    pairs = {name: column.clone() for name, column in table.pairs().items()}
    pairs["pair.candidates.lexical"][rows, places] = table.column("pair.candidates.lexical_gold")[rows]
    if ranking.reads_edges:
        aligned = computed_edges.table_of(reader, ranking.resident, table.device)
        with naming_columns(aligned):
            edges = computed_edges.edges(aligned, rows.cpu(), gold[rows, None].cpu())
        pairs["pair.alignment"][rows, places] = edges[:, 0]
    return table.with_lists(candidates, positions, pairs)


def missing(candidates: Tensor, gold: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mentions whose gold is not in their list, and its place there: the first padding, else the last one.

    candidates (N, C), position of gold (N,), row of gold (N,) -> rows (m,), places (m,).
    """
    rows = ((gold < 0) & (wanted >= 0)).nonzero()[:, 0]
    padding = candidates[rows] < 0
    return rows, padding.int().argmax(1).where(padding.any(1), candidates.shape[1] - 1)


def unlisted(ranking: Ranking, table: Table) -> Table:
    """Return the table with lists of the first entities, of which it holds what is known of any entity, edges as 0."""
    k = min(ranking.rerank or table.candidates.shape[1], table.entity_count)
    candidates = torch.arange(k, dtype=table.candidates.dtype, device=table.device).expand(len(table.candidates), k)
    known = ranking.reranks and ranking.reads_edges
    pairs = {"pair.alignment": torch.zeros(1, 1, 2, 2, device=table.device).expand(*candidates.shape, 2, 2)}
    return table.with_lists(candidates, torch.zeros_like(table.gold), pairs if known else {})


def reranked(ranking: Ranking, reader: Reader, table: Table, rows: Tensor, world: World) -> Table:
    """Return the table with new lists for mention rows (n,), in host memory: what aligns with each of them best."""
    k = min(ranking.rerank or table.places, table.entity_count)
    say(f"looking for the {k} of {table.entity_count:,} entities that each of {len(rows):,} mentions aligns with best")
    aligned = computed_edges.table_of(reader, ranking.resident, table.device)
    there = rows.to(table.device)
    with naming_columns(aligned):
        best = whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, k, world)
        edges = computed_edges.edges(aligned, rows, best.cpu()) if ranking.reads_edges else None
    candidates = table.candidates.new_full((len(table.candidates), k), -1)
    candidates[there] = best.to(candidates.dtype)
    gold = table.column("mention.ids.gold")[:, None]
    hits = (candidates == gold) & (gold >= 0)
    pairs = {}
    if edges is not None:
        pairs["pair.alignment"] = torch.zeros(*candidates.shape, 2, 2, device=table.device)
        pairs["pair.alignment"][there] = edges
    return table.with_lists(candidates, hits.int().argmax(1).where(hits.any(1), -1), pairs)
