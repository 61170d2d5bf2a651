"""DRIN's four edges (cache.edges) of any mention and entity, from the vectors in the cache; and a search by them."""

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from cache.edges import (
    ALIGNMENT,
    ALIGNMENT_READS,
    EDGES,
    JOINT,
    Edge,
    Probability,
    is_normal,
    on_grid,
    rounded,
    similarities,
)
from common.errors import NotFiniteError
from train.data.resident import Resident
from train.data.table import Table
from train.evaluating.whole_kb import Towers, Vectors

PAIRS = 16_384  # whose entity vectors are held at once
ROWS = 8_192  # entities read at once for their mean


def table_of(reader: Reader, resident: Resident, device: torch.device) -> Table:
    """Return a table of the columns that edges are computed from; vectors of missing pictures read 0 there."""
    return Table(reader, "lexical", device, resident, ALIGNMENT_READS)


@torch.no_grad()
def edges(table: Table, mentions: Tensor, entities: Tensor) -> Tensor:
    """Return the edges of mention rows (n,) with their entities (n, k), -1 = padding, host memory: (n, k, 2, 2).

    Axes as in Batch, padding 0; bit by bit what extraction stores as pair.alignment. Raises NotFiniteError if one is
    not finite.
    """
    found = np.zeros((*entities.shape, len(EDGES)), np.float32)
    for block in torch.arange(len(mentions)).split(max(1, PAIRS // max(1, entities.shape[1]))):
        found[block.numpy()] = np.stack([edge(table, one, mentions[block], entities[block]) for one in EDGES], -1)
    if not np.isfinite(found).all():
        raise NotFiniteError("an edge is not finite")
    return torch.from_numpy(found).to(table.device).unflatten(-1, (2, 2))


def edge(table: Table, edge: Edge, mentions: Tensor, entities: Tensor) -> np.ndarray:
    """Return one edge of mention rows (n,) with their entities (n, k), as `edges` does: (n, k)."""
    listed, places = entities.unique(return_inverse=True)
    places = places.where(entities >= 0, -1).numpy()
    queries = _ready(table, edge.mention, mentions)
    values = similarities(queries, _ready(table, edge.entity, listed.clamp(min=0)), places)
    probability = Probability.of(table.recipes[ALIGNMENT]) if ALIGNMENT in table.recipes else None
    if probability is not None and edge in JOINT:
        values = probability(values) * _known(table, edge, mentions, entities)
    return values


def towers(table: Table) -> Towers:
    """Return towers whose score is the sum of the four edges, each less its mean over the entities that have it.

    So an entity without a picture counts as one with an average picture; with 0 for a missing edge, none without a
    picture would come near the top. Of the joint encoder they are cosines here, whatever the cache's edges are: a sum
    of probabilities is no product of two vectors.
    """
    means = {edge.entity: _mean(table, edge.entity) for edge in EDGES if edge.of_entity_picture}

    def entities(rows: Tensor) -> Tensor:
        found = {edge.entity: _there(table, edge.entity, rows) for edge in EDGES}
        for name, mean in means.items():
            found[name] = found[name].sub(mean).where(found[name].any(-1, keepdim=True), 0)
        return torch.cat(list(found.values()), -1)

    return Towers(mentions_of(table), entities)


def mentions_of(table: Table) -> Vectors:
    """Return the mentions' side of `towers`."""

    def mentions(rows: Tensor) -> Tensor:
        return torch.cat([_there(table, edge.mention, rows) for edge in EDGES], -1)

    return mentions


def _known(table: Table, edge: Edge, mentions: Tensor, entities: Tensor) -> np.ndarray:
    """Return whether an edge of a text and a picture has both: the picture of the one side, and no padding, (n, k)."""
    there = (entities >= 0).to(table.device)
    if edge.of_entity_picture:
        there = there & table.column("entity.joint.present")[entities.clamp(min=0).to(table.device)]
    else:
        there = there & table.column("mention.joint.present")[mentions.to(table.device)][:, None]
    found: np.ndarray = there.cpu().numpy()
    return found


def _mean(table: Table, name: str) -> Tensor:
    """Return the mean (D,) of an entity column over the rows that are not zero."""
    total, count = 0.0, 0
    for rows in torch.arange(table.entity_count).split(ROWS):
        vectors = _there(table, name, rows)
        total, count = total + vectors.sum(0, dtype=torch.float64), count + vectors.any(-1).sum()
    return (total / count.clamp(min=1)).float()


def _ready(table: Table, name: str, rows: Tensor) -> np.ndarray:
    """Return a column's rows as their products are the edges, (n, D)."""
    return on_grid(name, table.features((name,), rows)[name].cpu().numpy())


def _there(table: Table, name: str, rows: Tensor) -> Tensor:
    """Return the same on the device; the last bit of a length may differ, as torch adds in another order."""
    return rounded(table.features((name,), rows)[name].double(), normal=is_normal(name)).float()
