"""Heads without weights: lexical, prior, clip.  Each returns the scores (n, C) of mention rows (n,).

`prior` and `clip` also rank gold among all entities; the string score is known of candidates alone.
"""

import torch
from torch import Tensor
from torch.nn import functional

from train.data.table import Table
from train.evaluating import best_entities, whole_kb
from train.evaluating.metrics import NEVER
from train.layers.products import SMALLEST_NORM
from train.processes import World

CHUNK = 1024  # mentions scored at once


def lexical(table: Table, rows: Tensor) -> Tensor:
    """Return the first stage's string score: no context, no picture, no training."""
    return table.lexical[rows.to(table.device)]


def prior(table: Table, rows: Tensor) -> Tensor:
    """Return how often each candidate was meant by the mention's string in train; strings never seen tie at 0."""
    there = rows.to(table.device)
    return meant(table, _strings(table, rows), table.candidates[there].clamp(min=0).long()).float()


def prior_of_all(table: Table, rows: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks among all entities: those above gold are some that the mention's string meant in train."""
    seen, counts = _meanings(table)
    there = rows.to(table.device)
    gold, surface = table.column("mention.ids.gold").long()[there], table.column("mention.ids.surface")[there]
    own = meant(table, surface, gold.clamp(min=0)[:, None])[:, 0]
    # a string's meanings stand together, those that were meant most often first
    size = 1 + len(table.rows("train"))
    order = ((seen // table.entity_count) * size + size - 1 - counts).sort().values
    asked = surface * size + size - 1 - own
    first, last = torch.searchsorted(order, surface * size), torch.searchsorted(order, (surface + 1) * size)
    better = torch.searchsorted(order, asked) - first
    tied = torch.searchsorted(order, asked, right=True) - first - better - 1
    never = table.entity_count - (last - first) - 1  # gold was not meant: neither were these
    tied = tied.where(own > 0, never)
    return better.where(gold >= 0, NEVER), tied.where(gold >= 0, 0)


def best_by_prior(table: Table, rows: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Return best_entities.best: what the mention's string meant in train; all others tie at 0, and so are none."""
    return best_meant(table, _strings(table, rows))


def best_meant(table: Table, strings: Tensor) -> tuple[Tensor, Tensor]:
    """Return `best_by_prior` of strings (n,), as `meant` takes them."""
    seen, counts = _meanings(table)
    order = counts.argsort(descending=True, stable=True)
    order = order[(seen // table.entity_count)[order].argsort(stable=True)]
    seen, counts = seen[order], counts[order]
    told = seen // table.entity_count
    first, last = (torch.searchsorted(told, strings, right=right) for right in (False, True))
    places = first[:, None] + torch.arange(best_entities.KEPT + 1, device=table.device)
    there, places = places < last[:, None], places.clamp(max=max(0, len(seen) - 1))
    if not len(seen):  # all of train is nil
        seen, counts = first.new_zeros(1), first.new_zeros(1)
    return best_entities.whole_ties(
        (seen % table.entity_count)[places].masked_fill(~there, -1),
        counts[places].double().masked_fill(~there, -torch.inf),
    )


def _meanings(table: Table) -> tuple[Tensor, Tensor]:
    """Return the pairs of string and entity that train has, as string * E + entity, ascending, and how often."""
    surface, gold = table.column("mention.ids.surface"), table.column("mention.ids.gold").long()
    train = table.rows("train").to(table.device)
    train = train[gold[train] >= 0]
    return (surface[train] * table.entity_count + gold[train]).unique(return_counts=True)


def _strings(table: Table, rows: Tensor) -> Tensor:
    return table.column("mention.ids.surface")[rows.to(table.device)]


def meant(table: Table, strings: Tensor, entities: Tensor) -> Tensor:
    """Return how often strings (n,) meant entities (n, k) in train, (n, k).

    A string is its place among the sorted distinct ones of all mentions, -1 where none has it.
    """
    seen, counts = _meanings(table)
    if not len(seen):  # all of train is nil
        return torch.zeros_like(entities)
    asked = strings[:, None] * table.entity_count + entities
    place = torch.searchsorted(seen, asked).clamp(max=len(seen) - 1)
    return counts[place].where(seen[place] == asked, 0)


@torch.no_grad()
def clip(table: Table, rows: Tensor) -> Tensor:
    """Return the sum of CLIP's cosines of the two texts and, where both pictures are there, of the two images."""
    found = []
    for batch in table.batches(rows.split(CHUNK)):
        texts = _cosines(batch["mention.joint.mention_sentence"], batch["entity.joint.text"])
        images = _cosines(batch["mention.joint.image"], batch["entity.joint.image"])
        found.append(texts + images)  # a missing picture is a vector of zeros, whose cosine is 0
    return torch.cat(found)


def clip_of_all(table: Table, rows: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks among all entities."""
    return whole_kb.ranks(towers_of_clip(table), table, rows, world)


def best_by_clip(table: Table, rows: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Return best_entities.best."""
    return best_entities.best(towers_of_clip(table), table, rows, world)


def towers_of_clip(table: Table) -> whole_kb.Towers:
    """Return towers whose score is `clip`."""

    def mentions(those: Tensor) -> Tensor:
        return _side(table, those, ("mention.joint.mention_sentence", "mention.joint.image"))

    def entities(those: Tensor) -> Tensor:
        return _side(table, those, ("entity.joint.text", "entity.joint.image"))

    return whole_kb.Towers(mentions, entities)


def _side(table: Table, rows: Tensor, columns: tuple[str, str]) -> Tensor:
    """Return the unit vectors of text and image side by side, whose product is the sum of both cosines."""
    found = table.features(columns, rows)
    return torch.cat([functional.normalize(found[name], dim=-1, eps=SMALLEST_NORM) for name in columns], -1)


def _cosines(mention: Tensor, entities: Tensor) -> Tensor:
    return functional.cosine_similarity(mention[:, None], entities, dim=-1)


BASELINES = {"lexical": lexical, "prior": prior, "clip": clip}
OF_ALL = {"prior": prior_of_all, "clip": clip_of_all}
BEST_OF_ALL = {"prior": best_by_prior, "clip": best_by_clip}
