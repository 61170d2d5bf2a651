"""Score a split: every distinct entity is projected once, however many mentions it is a candidate of."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common import devices
from train.data.batch import Batch
from train.data.table import Table
from train.evaluating import best_entities, metrics, whole_kb
from train.evaluating.untrained_heads import BASELINES, BEST_OF_ALL, OF_ALL
from train.heads.base import Head
from train.processes import World

SLOTS = {"cpu": 6_400, "cuda": 131_072}  # candidates scored at once
TOGETHER = 64  # mentions, or a multiple: of other numbers a CPU's products of matrices may be added up in another order
CHUNK = 8_192  # entities projected at once
SHARE = 0.25  # of the free memory that projected entities may take


@dataclass(frozen=True)
class Split:
    """The mentions of a split, `rows` (n,), whose gold is ranked among their candidates in `table`.

    Their distinct entities (E,), and `places` (n, C) of the candidates among those, on the device.
    """

    table: Table
    rows: Tensor
    entities: Tensor
    places: Tensor


@dataclass(frozen=True)
class AmongAll:
    """The mentions of a split, `rows` (n,), whose gold is ranked among all entities of `table`."""

    table: Table
    rows: Tensor


def rows_of(table: Table, name: str, protocol: str) -> Tensor:
    """Return the rows of a split's mentions that a protocol counts, (n,) in host memory."""
    rows = table.rows(name)
    return rows[(table.gold[rows.to(table.device)] >= 0).cpu()] if protocol == "given" else rows


def split_of(table: Table, name: str, protocol: str = "retrieved") -> Split:
    """Return the mentions of a split that the protocol counts, and their candidates."""
    return split_among(table, rows_of(table, name, protocol))


def split_among(table: Table, rows: Tensor) -> Split:
    """Return mention rows (n,), host memory, and their candidates."""
    candidates = table.candidates[rows.to(table.device)].clamp(min=0)
    entities, places = torch.unique(candidates, return_inverse=True)
    return Split(table, rows, entities.long().cpu(), places)


def rank(model: Head, split: Split | AmongAll, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks of a split's mentions, (n,) twice; in float32, whatever the precision of training."""
    return ranked(model, split, world)[0]


@torch.no_grad()  # not inference_mode, whose tensors a head could never use in training
def ranked(model: Head, split: Split | AmongAll, world: World) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Return `rank`, and what was compared: scores (n, C) float32, padding -inf; among all entities None."""
    was_training = model.training
    model.eval()
    if isinstance(split, AmongAll):
        found = whole_kb.ranks(whole_kb.towers_of(model, split.table), split.table, split.rows, world), None
    else:
        found = _rank_candidates(model, split, world)
    model.train(was_training)
    return found


def evaluate(model: Head, split: Split | AmongAll, world: World) -> dict[str, float]:
    """Return the metrics of a split, ties in expectation."""
    return measure(split, rank(model, split, world))


def measure(
    split: Split | AmongAll, ranks: tuple[Tensor, Tensor], rule: metrics.TieRule = "expected"
) -> dict[str, float]:
    """Return the metrics of a split's ranks, those of its ambiguous mentions among them."""
    better, tied = ranks
    return metrics.summarize(better, tied, rule, split.table.ambiguous[split.rows].to(better.device))


def rank_baseline(name: str, split: Split | AmongAll, listed: Table, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks of a split by a head without weights.

    The string score is known of `listed` candidates alone: whatever the split, it ranks those.
    """
    return ranked_by_baseline(name, split, listed, world)[0]


def ranked_by_baseline(
    name: str, split: Split | AmongAll, listed: Table, world: World
) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Return `rank_baseline`, and what was compared, as `ranked` does."""
    if isinstance(split, AmongAll) and name in OF_ALL:
        return OF_ALL[name](split.table, split.rows, world), None
    table = listed if name == "lexical" else split.table
    there = split.rows.to(table.device)
    found, present = BASELINES[name](table, split.rows), table.present[there]
    return metrics.ranks(found, table.gold[there], present), found.float().masked_fill(~present, -torch.inf)


@torch.no_grad()
def scores(model: Head, split: Split, projected: Tensor | None = None) -> Tensor:
    """Return the scores of a split's candidates, (n, C) float32, whatever of padding; as `rank` compares them.

    `projected` is what `project` gives of the split's entities, where that is known.
    """
    found = torch.zeros(len(split.rows), split.table.candidates.shape[1], device=split.table.device)
    for there, scored, _ in _scored(model.eval(), split, torch.arange(len(split.rows)), projected):
        found[there] = scored.float()
    return found


def kept(
    head: Head | str, split: Split | AmongAll, scored: Tensor | None, world: World, *, named: bool
) -> dict[str, Tensor]:
    """Return what a run keeps of a split: its mention `rows`, and the `scores` that were compared, (n, C).

    `head` is a network, or a baseline; `scored` are these scores, where they are known. Where all entities were ranked
    the best are kept. Where lists are not the cache's own (`named`), their `entities` are, (n, C) int32, -1 = padding.
    """
    if isinstance(split, AmongAll) and scored is None:
        if isinstance(head, str):
            entities, best = BEST_OF_ALL[head](split.table, split.rows, world)
        else:
            towers = whole_kb.towers_of(head.eval(), split.table)
            entities, best = best_entities.best(towers, split.table, split.rows, world)
        return {"rows": split.rows, "scores": best, "entities": entities.int()}
    if scored is None:
        assert isinstance(head, Head) and isinstance(split, Split), "a baseline's scores are known"
        scored = ranked(head, split, world)[1]
    assert scored is not None, "lists have scores"
    there = split.rows.to(split.table.device)
    lists = {"entities": split.table.candidates[there, : split.table.places]} if named else {}
    return {"rows": split.rows, "scores": scored[:, : split.table.places]} | lists


def _rank_candidates(model: Head, split: Split, world: World) -> tuple[tuple[Tensor, Tensor], Tensor]:
    better = torch.zeros(len(split.rows), dtype=torch.int64, device=split.table.device)
    tied = torch.zeros_like(better)
    found = torch.zeros(len(split.rows), split.table.candidates.shape[1], device=split.table.device)
    for there, scored, batch in _scored(model, split, torch.arange(len(split.rows))[world.rank :: world.size]):
        better[there], tied[there] = metrics.ranks(scored, batch.gold, batch.present)
        found[there] = scored.float().masked_fill(~batch.present, -torch.inf)
    world.add([better, tied])
    world.add([found])
    return (better, tied), found


def _scored(
    model: Head, split: Split, own: Tensor, projected: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Batch]]:
    """Yield places of a split's mentions, on the device, of those in `own`; their scores; and their batch."""
    table = split.table
    projected = project(model, table, split.entities) if projected is None else projected
    most = max(1, SLOTS[table.device.type] // table.candidates.shape[1])
    step = min(most, TOGETHER)
    groups = own.split(most // step * step)
    padded = [torch.cat([group, group[-1:].expand(-len(group) % step)]) for group in groups]
    without = () if projected is None else model.projects
    batches = table.batches((split.rows[group] for group in padded), without)
    for group, places, batch in zip(groups, padded, batches, strict=True):
        there = places.to(table.device)
        scored = model(batch, None if projected is None else projected[split.places[there]])
        yield there[: len(group)], scored[: len(group)], batch.like([held[: len(group)] for held in batch.tensors()])


def project(model: Head, table: Table, entities: Tensor) -> Tensor | None:
    """Return what the head projects of each entity, (E, D); None if it projects none, or too much for the memory."""
    if not model.projects:
        return None
    chunks, needed = [], 0
    for rows in entities.split(CHUNK):
        chunks.append(model.project(table.features(model.projects, rows)))
        needed = chunks[0].numel() * chunks[0].element_size() * len(entities) // len(chunks[0])
        if len(chunks) == 1 and 2 * needed > SHARE * devices.free_memory(table.device):
            return None
    return torch.cat(chunks)
