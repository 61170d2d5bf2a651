"""The best of all entities for a head of two towers, without a product with each: by codes first, then exactly.

What a head makes of 6,000,000 entities takes 9 GB as float32, and a product with all of it seconds. As codes it takes a
quarter, mapped from a file, and some hundreds of entities are compared as whole_kb compares all.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cache.fingerprint import digest
from cache.names import ColumnName
from cache.reader import Reader
from extract.retrieval.codes import Codes, Kept
from link.vectors.grown_reader import GrownReader
from train.data.table import Table
from train.evaluating import best_entities, exact_scores, whole_kb
from train.evaluating.best_entities import KEPT
from train.evaluating.whole_kb import Towers
from train.processes import World

FEWEST = 1 << 18  # entities from which on codes are made: fewer are compared all
EDITION = 1  # raise it where files of codes that were made are no longer those that would be
RECHECKED = 1 << 12  # entities compared at a time
TOGETHER = 16  # mentions


def kept(reader: Reader, columns: Sequence[str], more: object = "") -> Kept | None:
    """Return where the codes of what is made of entity columns lie, beside the shards; `more` else decides them.

    None where entities are only in memory.
    """
    if isinstance(reader, GrownReader):
        return None
    parts = sorted({ColumnName(name).part for name in columns})
    files = [shard.sha256 for part in parts for shard in reader.manifest.shards_of(part)]
    return Kept(reader.path, digest({"edition": EDITION, "columns": sorted(columns), "files": files, "more": more}))


class EntitySearch:
    """The entities of a table as a head's towers see them; codes of many are kept in a `place`."""

    @torch.no_grad()
    @exact_scores.full_float32()
    def __init__(self, towers: Towers, table: Table, place: Kept | None) -> None:
        def vectors(rows: np.ndarray) -> np.ndarray:
            found: np.ndarray = whole_kb.vectors_of(towers, table, "entity", torch.from_numpy(rows)).cpu().numpy()
            return found

        width = vectors(np.arange(1)).shape[1]
        self._codes = Codes(vectors, (table.entity_count, width), place)

    @torch.no_grad()
    @exact_scores.full_float32()
    def best(self, towers: Towers, table: Table, rows: Tensor, k: int = KEPT) -> tuple[Tensor, Tensor]:
        """Return what best_entities.best does of mention rows (n,) of a table of the same entities: (n, k) twice."""
        entities = torch.full((len(rows), k), -1, dtype=torch.int64)
        scores = torch.full((len(rows), k), -torch.inf, dtype=torch.float64)
        mentions = whole_kb.vectors_of(towers, table, "mention", rows).cpu()
        there = mentions.any(1)
        for some in torch.arange(len(rows))[there].split(TOGETHER):
            own = rows[some]

            def nearest(place: int, those: np.ndarray, own: Tensor = own) -> np.ndarray:
                return self._highest(towers, table, own[place : place + 1], those, k + 1)[0]

            possible = self._codes.possible(mentions[some].numpy(), min(k + 1, len(self._codes)), nearest)
            for place, those in zip(some.tolist(), possible, strict=True):
                found, values = self._highest(towers, table, rows[place : place + 1], those, k + 1)
                listed, scored = torch.full((1, k + 1), -1), torch.full((1, k + 1), -torch.inf, dtype=torch.float64)
                listed[0, : len(found)], scored[0, : len(found)] = torch.from_numpy(found), torch.from_numpy(values)
                entities[place], scores[place] = (of[0] for of in best_entities.whole_ties(listed, scored))
        if not there.all():  # as far from all
            entities[~there], scores[~there] = best_entities.best(towers, table, rows[~there], World(), k)
        return entities, scores

    def _highest(
        self, towers: Towers, table: Table, row: Tensor, those: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k entities of some that have the highest scores with a mention row (1,), and these."""
        best, values = those[:0], np.empty(0)
        for begin in range(0, len(those), RECHECKED):
            some = those[begin : begin + RECHECKED]
            exact = whole_kb.scores_of(towers, table, row, torch.from_numpy(some)[None])[0].cpu().numpy()
            best, values = np.concatenate([best, some]), np.concatenate([values, exact])
            order = np.argsort(-values, kind="stable")[:k]
            best, values = best[order], values[order]
        return best, values
