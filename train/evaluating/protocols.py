"""The four protocols: what each reads beside the head's own columns, and what it ranks gold among.

A `retrieved`: the mention's list; a gold that is not in it is a miss. D `given`: the same of mentions with gold in it.
B `injected`: the list, in all splits; gold is put in where it is missing, unless it is not in the knowledge base.
C `whole-kb`: all entities. Heads whose score is a cosine of two towers rank them all; others, and all with --rerank,
re-rank the k best by alignment score. Training is in the lists, as in A. The string score is known there alone: it
ranks its own list whatever the protocol.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cache import Reader
from cache.edges import ALIGNMENT_READS
from common.output import say
from train.config import TrainConfig
from train.data.not_finite import naming_columns
from train.data.table import Table
from train.evaluating import computed_edges, whole_kb
from train.evaluating.ranking import AmongAll, Split, split_of
from train.heads.models import MODELS
from train.heads.registry import HEADS
from train.processes import World

COLUMNS = {
    "injected": ("mention.ids.gold", "pair.candidates.lexical_gold"),
    "whole-kb": ("mention.ids.gold",),
}


def columns(config: TrainConfig, reader: Reader) -> tuple[str, ...]:
    """Return what the table holds for the protocol.  Raises CacheError if the cache lacks what the protocol reads."""
    held = COLUMNS.get(config.protocol, ())
    searched = reranks(config) or (config.protocol == "injected" and _reads_edges(config))
    read = (*held, *(ALIGNMENT_READS if searched else ()))
    reader.expect(read, config.model, f"{config.model} under --protocol {config.protocol}")
    return held


def reranks(config: TrainConfig) -> bool:
    """Whether the run re-ranks the best entities of a first stage, not those of the lists and not all."""
    if config.protocol != "whole-kb" or config.model == "lexical":
        return False
    return config.rerank > 0 or (config.model in MODELS and not MODELS[config.model].two_towers)


def ranked(config: TrainConfig) -> str:
    """Return what the run ranks for a mention: its `list`, the `best` by alignment score, or `all` entities.

    Runs on one cache with the same options rank the same entities if this is the same.
    """
    if reranks(config):
        return "best"
    return "all" if config.protocol == "whole-kb" and config.model != "lexical" else "list"


def splits(
    config: TrainConfig,
    reader: Reader,
    table: Table,
    world: World,
    complete: Callable[[Table], Table] = lambda table: table,
) -> dict[str, Split | AmongAll]:
    """Return valid and test, ready to be ranked; `complete` is done to lists other than the table's."""
    names = ("valid", "test")
    among = ranked(config)
    if among == "best":
        table = complete(_reranked(config, reader, table, world))
    elif among == "all":
        return {name: AmongAll(table, table.rows(name)) for name in names}
    return {name: split_of(table, name, config.protocol) for name in names}


def injected(config: TrainConfig, reader: Reader, table: Table) -> Table:
    """Return the table with gold in every list whose mention has one."""
    gold = table.column("mention.ids.gold").long()
    rows, places = missing(table.candidates, table.gold, gold)
    candidates, positions = table.candidates.clone(), table.gold.clone()
    candidates[rows, places], positions[rows] = gold[rows].to(candidates.dtype), places
    pairs = {name: column.clone() for name, column in table.pairs().items()}
    pairs["pair.candidates.lexical"][rows, places] = table.column("pair.candidates.lexical_gold")[rows]
    if _reads_edges(config):
        aligned = computed_edges.table_of(reader, config.resident, table.device)
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


def unlisted(config: TrainConfig, table: Table) -> Table:
    """Return the table with lists of the first entities, of which it holds what is known of any entity, edges as 0."""
    k = min(config.rerank or table.candidates.shape[1], table.entity_count)
    candidates = torch.arange(k, dtype=table.candidates.dtype, device=table.device).expand(len(table.candidates), k)
    known = reranks(config) and _reads_edges(config)
    pairs = {"pair.alignment": torch.zeros(1, 1, 2, 2, device=table.device).expand(*candidates.shape, 2, 2)}
    return table.with_lists(candidates, torch.zeros_like(table.gold), pairs if known else {})


def _reranked(config: TrainConfig, reader: Reader, table: Table, world: World) -> Table:
    """Return the table with new lists for valid and test: the entities with the highest alignment scores."""
    k = min(config.rerank or table.places, table.entity_count)
    say(f"looking for the {k} of {table.entity_count:,} entities that each mention of valid and test aligns with best")
    aligned = computed_edges.table_of(reader, config.resident, table.device)
    rows = torch.cat([table.rows("valid"), table.rows("test")]).unique()
    there = rows.to(table.device)
    with naming_columns(aligned):
        best = whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, k, world)
        edges = computed_edges.edges(aligned, rows, best.cpu()) if _reads_edges(config) else None
    candidates = table.candidates.new_full((len(table.candidates), k), -1)
    candidates[there] = best.to(candidates.dtype)
    gold = table.column("mention.ids.gold")[:, None]
    hits = (candidates == gold) & (gold >= 0)
    pairs = {}
    if edges is not None:
        pairs["pair.alignment"] = torch.zeros(*candidates.shape, 2, 2, device=table.device)
        pairs["pair.alignment"][there] = edges
    return table.with_lists(candidates, hits.int().argmax(1).where(hits.any(1), -1), pairs)


def _reads_edges(config: TrainConfig) -> bool:
    return any(name.startswith("pair.alignment.") for name in HEADS[config.model].reads)
