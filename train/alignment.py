"""DRIN's four edges (Eq. 6-8, 11) of any mention and entity, from the vectors in the cache; and a search by them."""

import torch
from torch import Tensor

from cache import Reader
from cache.schema import ALIGNMENT_READS
from common.errors import NotFiniteError
from train.config import Resident
from train.table import Table
from train.whole import GRID, Towers

PAIRS = 4_096  # whose entity vectors are gathered at once
ROWS = 8_192  # entities read at once for their mean

# mention and entity column of each edge, in the order of EDGES
SIDES = (
    ("mention.bert.cls", "entity.bert.text"),
    ("mention.clip.sentence", "entity.clip.image"),
    ("mention.clip.image", "entity.clip.text"),
    ("mention.objects.summary", "entity.objects.summary"),
)
OF_PICTURES = ("entity.clip.image", "entity.objects.summary")


def table_of(reader: Reader, resident: Resident, device: torch.device) -> Table:
    """Return a table of the columns that edges are computed from; vectors of missing pictures read 0 there."""
    return Table(reader, "lexical", device, resident, ALIGNMENT_READS)


@torch.no_grad()
def edges(table: Table, mentions: Tensor, entities: Tensor) -> Tensor:
    """Return the edges of mention rows (n,) with their entities (n, k), -1 = padding, host memory: (n, k, 2, 2).

    Axes as in Batch, padding 0; what extraction stores as pair.alignment, which is computed likewise: exactly, from
    vectors on whole.GRID. Raises NotFiniteError if one is not finite.
    """
    found = torch.zeros(*entities.shape, len(SIDES), device=table.device)
    for block in torch.arange(len(mentions)).split(max(1, PAIRS // max(1, entities.shape[1]))):
        wanted = entities[block].clamp(min=0)
        for i, (of_mention, of_entity) in enumerate(SIDES):
            queries = _ready(table, of_mention, mentions[block])
            vectors = _ready(table, of_entity, wanted.flatten()).unflatten(0, wanted.shape)
            products = torch.bmm(vectors.double(), queries.double()[..., None])[..., 0]
            found[block.to(table.device), :, i] = products.float()
    if not torch.isfinite(found).all():
        raise NotFiniteError("an edge is not finite")
    return found.clamp_(-1, 1).masked_fill((entities < 0).to(table.device)[..., None], 0).unflatten(-1, (2, 2))


def towers(table: Table) -> Towers:
    """Return towers whose score is the sum of the four edges, each less its mean over the entities that have it.

    So an entity without a picture counts as one with an average picture; with 0 for a missing edge, none without a
    picture would come near the top.
    """
    means = {name: _mean(table, name) for name in OF_PICTURES}

    def mentions(rows: Tensor) -> Tensor:
        return torch.cat([_ready(table, name, rows) for name, _ in SIDES], -1)

    def entities(rows: Tensor) -> Tensor:
        found = {name: _ready(table, name, rows) for _, name in SIDES}
        for name, mean in means.items():
            found[name] = found[name].sub(mean).where(found[name].any(-1, keepdim=True), 0)
        return torch.cat(list(found.values()), -1)

    return Towers(mentions, entities)


def _mean(table: Table, name: str) -> Tensor:
    """Return the mean (D,) of an entity column over the rows that are not zero."""
    total, count = 0.0, 0
    for rows in torch.arange(table.entity_count).split(ROWS):
        vectors = _ready(table, name, rows)
        total, count = total + vectors.sum(0, dtype=torch.float64), count + vectors.any(-1).sum()
    return (total / count.clamp(min=1)).float()


def _ready(table: Table, name: str, rows: Tensor) -> Tensor:
    """Return a column's rows as their products are the edges: (n, D), of length 1 but for summaries (Eq. 11)."""
    vectors = table.features((name,), rows)[name].double()
    if not name.endswith(".summary"):
        norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        vectors = vectors / norms.where(norms > 0, 1)
    return (vectors * GRID).round_().div_(GRID).float()
