"""Gold that was not retrieved as one more vertex of the graph, as in the code of DRIN's authors (--leak-gold).

Gold that was retrieved needs no such vertex: its copy is computed with it (models.drin_authors).
"""

import torch
from torch import Tensor
from torch.nn import functional

from cache import Reader
from cache.edges import ALIGNMENT_READS
from train.data.batch import VERTICES
from train.data.not_finite import naming_columns
from train.data.resident import Resident
from train.data.table import Table
from train.evaluating import computed_edges


def with_gold(reader: Reader, resident: Resident, table: Table) -> Table:
    """Return the table with one more place in every list, which is not ranked: gold's where the list lacks it.

    Where no list lacks gold, or the cache does not hold what its edges are computed from, that is the table itself.
    """
    rows = _lost(table)
    if not len(rows) or _missing(reader):
        return table
    gold = table.column("mention.ids.gold").long()[rows, None]
    aligned = computed_edges.table_of(reader, resident, table.device)
    with naming_columns(aligned):
        edges = computed_edges.edges(aligned, rows.cpu(), gold.cpu())
    candidates = functional.pad(table.candidates, (0, 1), value=-1)
    candidates[rows, -1] = gold[:, 0].to(candidates.dtype)
    pairs = {name: _wider(column) for name, column in table.pairs().items()}
    pairs["pair.alignment"][rows, -1] = edges[:, 0]
    return table.with_lists(candidates, table.gold, pairs | {VERTICES: candidates >= 0}, unranked=1)


def warnings(reader: Reader, table: Table) -> tuple[str, ...]:
    """Return what is other than in the authors' code where the cache does not hold what edges are computed from."""
    missing, count = _missing(reader), len(_lost(table))
    if not missing or not count:
        return ()
    return (
        f"--leak-gold: of {count:,} mentions gold was not retrieved and is, other than in the authors' code, no vertex "
        f"either: the cache lacks what its edges are computed from ({', '.join(missing)})",
    )


def _lost(table: Table) -> Tensor:
    """Return the mentions with a list that lacks their gold, (n,)."""
    return ((table.gold < 0) & (table.column("mention.ids.gold") >= 0) & table.present.any(1)).nonzero()[:, 0]


def _missing(reader: Reader) -> list[str]:
    return sorted(set(ALIGNMENT_READS) - set(reader.columns))


def _wider(column: Tensor) -> Tensor:
    """Return a column of pairs (N, C, ...) with one more place of zeros."""
    return torch.cat([column, torch.zeros_like(column[:, :1])], 1)
