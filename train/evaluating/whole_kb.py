"""Protocol C: gold's rank among all entities, without a table of mentions times entities.

Memory holds three things at a time: the vectors of a group of mentions, those of a chunk of entities, and the scores of
a block of the group with the chunk. A score is the dot product of two vectors that are rounded first (cache.edges).
Such products and all their sums are exact in float64, in whatever order a processor adds them up: so entities with
equal vectors tie, and ranks depend neither on the size of blocks and chunks nor on the number of threads. Vectors are
computed in pieces of one size, because a row of a matrix product may differ in its last bit between sizes.

Scores are first computed in float32; float64 decides only where that could be wrong (train/evaluating/exact_scores.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from cache.edges import rounded
from common.errors import NotFiniteError
from common.output import Progress
from train.data.table import Table
from train.evaluating import exact_scores
from train.evaluating.exact_scores import KEY, Others
from train.evaluating.metrics import NEVER
from train.heads.base import Head
from train.layers.products import SMALLEST_NORM
from train.processes import World

GROUP = 8_192  # mentions whose vectors are held; all entities are projected once for each group
PIECES = {"mention": 128, "entity": 4_096}  # whose vectors are computed at once: of a mention heads may read 49 regions
BLOCK = {"cpu": 1_024, "cuda": 4_096}  # mentions compared at once
CHUNK = {"cpu": 4_096, "cuda": 32_768}  # entities compared at once

ALONE = World()
PAIRS = 8  # a block is so many times smaller where strings are compared, too

Vectors = Callable[[Tensor], Tensor]
Pairs = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Towers:
    """Vectors (n, D) of mention and of entity rows (n,), host memory, whose dot product is the score; |m||e| <= 8.

    `pairs` is what is added: of mention rows (b,) and entity rows (c,) or (b, c), on the device, (b, c). `known` are
    the vectors of all entities on the grid, (E, D), where they were computed before.
    """

    mentions: Vectors
    entities: Vectors
    pairs: Pairs | None = None
    known: Tensor | None = None


def towers_of(model: Head, table: Table) -> Towers:
    """Return the towers of a head whose score is a cosine, or a dot product and what strings add."""
    length = _unit if model.two_towers else Tensor.float

    def mentions(rows: Tensor) -> Tensor:
        batch = table.batch(rows.to(table.device), without=("entity.",))
        columns = {name: column for name, column in batch.columns.items() if not name.startswith("pair.")}
        return length(model.embed(replace(batch, columns=columns)))  # lists have no part in it

    def entities(rows: Tensor) -> Tensor:
        return length(model.project(table.features(model.projects, rows)))

    def pairs(rows: Tensor, those: Tensor) -> Tensor:
        return model.strings(*table.facts(rows, those))

    return Towers(mentions, entities, pairs if model.adds_strings else None)


@torch.no_grad()
@exact_scores.full_float32()
def with_entities(towers: Towers, table: Table, most: int) -> Towers:
    """Return towers that know the vectors of all entities, where these take no more than `most` bytes."""
    found, needed = [], 0
    for _, vectors in _chunks(towers, table):
        found.append(vectors)
        needed = vectors[0].nbytes * table.entity_count
        if needed > most:
            return towers
    return replace(towers, known=torch.cat(found))


@torch.no_grad()
@exact_scores.full_float32()
def scores_of(towers: Towers, table: Table, rows: Tensor, entities: Tensor) -> Tensor:
    """Return the exact scores, float64 (n, k), of mention rows (n,) with entities (n, k) each, all in host memory."""
    listed, places = entities.unique(return_inverse=True)
    vectors = vectors_of(towers, table, "entity", listed) if towers.known is None else towers.known[listed]
    mentions, there, found = vectors_of(towers, table, "mention", rows), rows.to(table.device), []
    for row in range(len(rows)):  # sums of products are exact, in whatever order
        exact = vectors[places[row]].double() @ mentions[row].double()
        if towers.pairs is not None:
            exact += towers.pairs(there[row : row + 1], entities[row : row + 1].to(table.device))[0]
        found.append(exact)
    return torch.stack(found)


@torch.no_grad()
@exact_scores.full_float32()
def ranks(towers: Towers, table: Table, rows: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks of mention rows (n,) among all entities, (n,) twice; the table must hold mention.ids.gold.

    Raises NotFiniteError for a vector that is not finite, be it of an entity that nobody would compare with gold.
    """
    gold = table.column("mention.ids.gold").long()[rows.to(table.device)]
    better, tied = torch.zeros_like(gold), torch.zeros_like(gold)
    groups = _groups((gold >= 0).nonzero()[:, 0].cpu())
    with _progress(groups, table, "ranks among all entities", world) as progress:
        for group in groups:
            there = group.to(table.device)
            better[there], tied[there] = _count(towers, table, rows[group], gold[there], world, progress)
    world.add([better, tied])  # each process has compared its share of the entities with all mentions
    return better.masked_fill(gold < 0, NEVER), tied


@torch.no_grad()
@exact_scores.full_float32()
def nearest(towers: Towers, table: Table, rows: Tensor, k: int, world: World) -> Tensor:
    """Return the k entities with the highest scores of mention rows (n,), best first, equal ones by row: (n, k)."""
    bits = table.entity_count.bit_length()
    assert bits <= 28, "a score of up to 8 has 34 bits, a key 63"
    found = torch.zeros(len(rows), k, dtype=torch.int64, device=table.device)
    groups = _groups(world.share(torch.arange(len(rows))))
    with _progress(groups, table, "alignment with all entities") as progress:
        for group in groups:
            found[group.to(table.device)] = _best(towers, table, rows[group], k, bits, progress)
    world.add([found])
    return found


def _groups(mentions: Tensor) -> list[Tensor]:
    return [group for group in mentions.split(GROUP) if len(group)]


def _progress(groups: list[Tensor], table: Table, label: str, world: World = ALONE) -> Progress:
    return Progress(len(groups) * world.count(-(-table.entity_count // CHUNK[table.device.type])), label, "chunks")


def _count(
    towers: Towers, table: Table, rows: Tensor, gold: Tensor, world: World, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Return how many of this process's share of the entities stand above gold and how many others tie with it."""
    mentions = vectors_of(towers, table, "mention", rows)
    golds, own = gold.cpu().unique(return_inverse=True)
    vectors = vectors_of(towers, table, "entity", golds)
    own = (mentions.double() * vectors[own.to(table.device)].double()).sum(1, keepdim=True)
    there, size = rows.to(table.device), BLOCK[table.device.type]
    if towers.pairs is not None:
        own += towers.pairs(there, gold[:, None])
        size = max(1, size // PAIRS)
    better, tied = torch.zeros_like(gold), torch.zeros_like(gold)
    for begin, entities in _chunks(towers, table, world):
        place = gold[:, None] - begin
        outside = (place < 0) | (place >= len(entities))
        place = place.clamp(0, len(entities) - 1)
        for block in torch.arange(len(rows), device=table.device).split(size):
            added = None
            if towers.pairs is not None:
                added = towers.pairs(there[block], torch.arange(begin, begin + len(entities), device=table.device))
            others = Others(place[block], outside[block])
            above, equal = exact_scores.compare(mentions[block], entities, own[block], added, others)
            better[block] += above
            tied[block] += equal
        progress.advance()
    return better, tied


def _best(towers: Towers, table: Table, rows: Tensor, k: int, bits: int, progress: Progress) -> Tensor:
    """Return the k best entities of mention rows, (n, k); score and row are one integer, so that ties have an order."""
    mentions = vectors_of(towers, table, "mention", rows)
    best = torch.full((len(rows), k), -(1 << 62), device=table.device)
    last = (1 << bits) - 1
    for begin, entities in _chunks(towers, table):
        order = last - torch.arange(begin, begin + len(entities), device=table.device)
        for block in torch.arange(len(rows), device=table.device).split(BLOCK[table.device.type]):
            least = (best[block, -1:] >> bits) / KEY
            columns, scores = exact_scores.highest(mentions[block], entities, k, least)
            keys = scores.mul_(KEY).round_().long().bitwise_left_shift_(bits).add_(order[columns])
            keys = keys.topk(min(k, keys.shape[1])).values
            best[block] = torch.cat([best[block], keys], 1).topk(k).values
        progress.advance()
    return last - (best & last)


def _chunks(towers: Towers, table: Table, world: World = ALONE) -> Iterator[tuple[int, Tensor]]:
    """Yield first row and vectors (c, D) of all entities, or of a process's share, float32."""
    for rows in torch.arange(table.entity_count).split(CHUNK[table.device.type])[world.rank :: world.size]:
        begin, end = int(rows[0]), int(rows[-1]) + 1
        yield begin, vectors_of(towers, table, "entity", rows) if towers.known is None else towers.known[begin:end]


def vectors_of(towers: Towers, table: Table, kind: str, rows: Tensor) -> Tensor:
    """Return the vectors of mention or entity rows (n,), host memory, on the grid, (n, D) float32.

    `kind` is "mention" or "entity". Raises NotFiniteError, naming the row.
    """
    vectors = towers.mentions if kind == "mention" else towers.entities
    count = table.mention_count if kind == "mention" else table.entity_count
    size, found = min(PIECES[kind], count), []
    for piece in rows.split(size):
        filled = torch.cat([piece, piece[:1].expand(size - len(piece))])  # pieces of one size: see above
        found.append(rounded(vectors(filled)[: len(piece)], normal=False))
        bad = ~torch.isfinite(found[-1]).all(1)
        if bad.any():
            raise NotFiniteError(f"the vector of {kind} {int(piece[bad.nonzero()[0, 0].cpu()])} is not finite")
    return torch.cat(found)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.float(), dim=-1, eps=SMALLEST_NORM)


def blocks(
    towers: Towers, table: Table, rows: Tensor, label: str
) -> Iterator[tuple[Tensor, int, Tensor, Tensor, Tensor | None]]:
    """Yield places (b,) among mention rows (n,), the first of some entity rows (c,), and what their scores are made of.

    That is their vectors (b, D) and (c, D), and what is added (b, c), if anything is.
    """
    groups, size = _groups(torch.arange(len(rows))), BLOCK[table.device.type] // (1 if towers.pairs is None else PAIRS)
    with _progress(groups, table, label) as progress:
        for group in groups:
            mentions, there = vectors_of(towers, table, "mention", rows[group]), group.to(table.device)
            for begin, entities in _chunks(towers, table):
                columns = torch.arange(begin, begin + len(entities), device=table.device)
                for block in torch.arange(len(group), device=table.device).split(size):
                    places, added = there[block], None
                    if towers.pairs is not None:
                        added = towers.pairs(rows.to(table.device)[places], columns)
                    yield places, begin, mentions[block], entities, added
                progress.advance()
