"""Which order of rows lets a new cache take the most from caches beside it: the release's, or that of a grown one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.manifests.entries import Manifest
from cache.names import PartName
from common.records import Dataset
from extract.planning.layout import Borders
from extract.planning.row_order import KEPT, ORDERED, EarlierRows, arrange, column
from extract.planning.rows import text_content
from extract.reading.string_columns import stored

Held = np.ndarray  # of rows (n,) int64, a hash of the id and what its texts hold: ranges encoded alike are equal in it


@dataclass(frozen=True)
class HeldRows:
    """The rows of a finished cache, in order and cut into ranges, by table."""

    order: EarlierRows
    rows: dict[str, Held]

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> "HeldRows | None":
        """Return those of a cache, None where it is of a limited extraction.  Raises CacheError."""
        order = EarlierRows.told(manifest, lambda part: column(folder, manifest, part.column("id")))
        if order is None:
            return None
        rows = {}
        for table in ORDERED:
            contents = column(folder, manifest, PartName(f"{table}.ids").column("content_text"))
            pairs = zip(order.ids[table], contents, strict=True)
            hashes = (hash((name, content.tobytes())) for name, content in pairs)
            rows[table] = np.fromiter(hashes, np.int64, len(contents))
        return cls(order, rows)

    def ranges(self, table: str) -> Iterator[Held]:
        """Yield the rows of each range of a table."""
        return _cut(self.rows[table], self.order.layout.borders[table])


def best(release: Dataset, held: Iterable[HeldRows], size: int) -> EarlierRows | None:
    """Return the order under which the most rows stand in a range that some cache has, None for the release's own.

    Another order than the release's is worth it only if it is better: so the id of a cache depends on what lies beside
    it only where that saves work.
    """
    caches = list(held)
    if not caches:
        return None
    own, layout = arrange(release, None, size)
    mine = {table: _rows(own, table) for table in ORDERED}
    there = {table: {cut.tobytes() for one in caches for cut in one.ranges(table)} for table in ORDERED}
    chosen, most = None, 0
    for table in ORDERED:
        most += sum(len(cut) for cut in _cut(mine[table], layout.borders[table]) if cut.tobytes() in there[table])
    if most == sum(map(len, mine.values())):
        return None
    for one in caches:
        if (kept := sum(_kept(one, table, mine[table]) for table in ORDERED)) > most:
            chosen, most = one.order, kept
    return chosen


def _kept(held: HeldRows, table: str, release: Held) -> int:
    """Return how many rows of a cache stand in a range that a release that follows its order has, too."""
    there = np.isin(held.rows[table], release)
    if there.sum() < KEPT * len(there):
        return 0  # its rows would be numbered anew
    return sum(len(cut) for cut in _cut(there, held.order.layout.borders[table]) if cut.all())


def _rows(release: Dataset, table: str) -> Held:
    records = release.entities if table == "entity" else release.mentions
    hashes = (hash((stored(record.id), text_content(record))) for record in records)
    return np.fromiter(hashes, np.int64, len(records))


def _cut(rows: np.ndarray, borders: Borders) -> Iterator[np.ndarray]:
    return (rows[start:stop] for start, stop in borders)
