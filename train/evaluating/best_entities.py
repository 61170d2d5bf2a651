"""The best entities of each mention with their scores, where gold is ranked among all entities: what a run keeps."""

import torch
from torch import Tensor

from train.data.table import Table
from train.evaluating import exact_scores, whole_kb
from train.evaluating.whole_kb import Towers
from train.processes import World

KEPT = 100  # entities of a mention


@torch.no_grad()
@exact_scores.full_float32()
def best(towers: Towers, table: Table, rows: Tensor, world: World, k: int = KEPT) -> tuple[Tensor, Tensor]:
    """Return the k best entities of mention rows (n,), host memory, best first, and their scores in float64: (n, k).

    Equal ones stand by row. No tie is cut: entities that tie with the first one left out are left out, too. What a list
    then lacks is entity -1 with a score of -inf. Raises NotFiniteError as whole_kb.ranks.
    """
    entities = torch.zeros(len(rows), k, dtype=torch.int64, device=table.device)
    scores = torch.zeros(len(rows), k, dtype=torch.float64, device=table.device)
    own = world.share(torch.arange(len(rows)))
    there = own.to(table.device)
    entities[there], scores[there] = whole_ties(*_highest(towers, table, rows[own], k + 1))
    world.add([entities])
    world.add([scores])
    return entities, scores


def whole_ties(entities: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return lists in order, without the last one and what ties with it.  (n, k + 1) twice, -inf = none -> (n, k)."""
    by_row = entities.argsort(dim=1)
    entities, scores = entities.gather(1, by_row), scores.gather(1, by_row)
    order = scores.argsort(dim=1, descending=True, stable=True)
    entities, scores = entities.gather(1, order), scores.gather(1, order)
    cut = scores[:, :-1] <= scores[:, -1:]
    return entities[:, :-1].masked_fill(cut, -1), scores[:, :-1].masked_fill(cut, -torch.inf)


def _highest(towers: Towers, table: Table, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return k entities with the highest scores, in any order, and those; -1 and -inf where there are fewer."""
    entities = torch.full((len(rows), k), -1, dtype=torch.int64, device=table.device)
    scores = torch.full((len(rows), k), -torch.inf, dtype=torch.float64, device=table.device)
    for there, begin, *given in whole_kb.blocks(towers, table, rows, f"the {k - 1} best entities"):
        places, found = _highest_of(*given, k, scores[there].amin(1, keepdim=True))
        values, order = torch.cat([scores[there], found], 1).topk(k)
        scores[there] = values
        entities[there] = torch.cat([entities[there], places + begin], 1).gather(1, order)
    return entities, scores


def _highest_of(
    mentions: Tensor, entities: Tensor, added: Tensor | None, k: int, least: Tensor
) -> tuple[Tensor, Tensor]:
    """Return places and exact scores, (b, m) twice, that hold all of the k highest but those below `least` (b, 1)."""
    if added is None:
        return exact_scores.highest(mentions, entities, k, least)
    found, places = exact_scores.all_exact(mentions, entities, added).topk(min(k, len(entities)))
    return places, found
