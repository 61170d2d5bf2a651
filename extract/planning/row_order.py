"""Which row each record of a release has: the one it has in the cache that is there already, else a new one behind.

So adding to a dataset leaves the ranges of what was there as they are, and with them their keys and shards. A range
is computed anew where one of its records has changed or is gone; no other is.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache import manifests, store
from cache.manifests.entries import Manifest
from cache.names import ColumnName, PartName
from common.errors import CacheError, DatasetError, DeniedError
from common.output import say
from common.records import Dataset, Entity, Mention
from extract.config import ExtractConfig
from extract.planning.layout import Borders, Layout, borders
from extract.reading.entity_columns import Entities
from extract.reading.string_columns import StringColumn

ORDERED = ("entity", "mention")
PARTS_A_RANGE = 7  # of mentions, without those on demand; of entities 5
MORE_RANGES = 100  # than a fresh extraction has
MOST_GENERATIONS, MOST_ROWS = 1_000, 1 << 15  # of an order that comes from elsewhere, and of its ranges
NO_IDS = np.array([], "|S16")
KEPT = 0.5  # of a table's rows must be in the release still; else their order is worth nothing


@dataclass(frozen=True)
class EarlierRows:
    """The rows of the cache that is there already: their ids, as stored, in row order; and its layout."""

    ids: dict[str, np.ndarray]  # (n,), fixed-length UTF-8
    layout: Layout

    @classmethod
    def of(cls, folder: Path) -> "EarlierRows | None":
        """Return what the cache in `folder` tells, None where there is none, or one of a limited extraction.

        Raises CacheError for a grown cache whose ids are damaged: in their order lie hours of work.
        """
        try:
            manifest = manifests.load(folder)
        except DeniedError:
            raise
        except CacheError:
            return None
        try:
            return cls.told(manifest, lambda part: column(folder, manifest, part.column("id")))
        except CacheError as error:
            if len(manifest.generations or ()) > 1:
                raise CacheError(
                    f"{error}, and this cache has grown: the order of its rows is stored in its ids alone. Pull "
                    "it again from where it is shared, or number all rows anew: --reorder"
                ) from error
            return None  # the order is the release's

    @classmethod
    def told(cls, manifest: Manifest, ids: Callable[[PartName], np.ndarray]) -> "EarlierRows | None":
        """Return what a manifest tells and `ids`, given a part; None where it is of a limited extraction."""
        if not manifest.generations:
            return None
        cuts: dict[str, Borders] = {table: [] for table in ORDERED}
        for shard in manifest.shards:
            if shard.part.kind == "ids":
                cuts[shard.part.table].append((shard.start, shard.stop))
        return cls({table: ids(PartName(f"{table}.ids")) for table in ORDERED}, Layout(cuts, manifest.generations))


def worth(manifest: Manifest, counts: tuple[int, int], config: ExtractConfig) -> bool:
    """Return whether the order of a cache elsewhere may be followed by a release of so many entities and mentions.

    Not that of one with many times the rows, nor one cut so finely that no manifest could list what follows it, nor
    in ranges too large to be computed here.
    """
    ids = [shard for shard in manifest.shards if shard.part.kind == "ids"]
    mine = sum(-(-count // config.shard_rows) for count in counts)
    parts = PARTS_A_RANGE + len(config.demanded)
    return (
        len(manifest.generations or ()) <= MOST_GENERATIONS
        and all(manifest.tables[table] * KEPT <= count for table, count in zip(ORDERED, counts, strict=True))
        and all(shard.rows <= max(config.shard_rows, MOST_ROWS) for shard in ids)
        and len(ids) * parts <= max(manifests.MAX_SHARDS // 2, (mine + MORE_RANGES) * parts)
    )


def later(here: EarlierRows | None, there: EarlierRows | None) -> EarlierRows | None:
    """Return the order of a cache elsewhere if it is that of the one here, or continues it; else that of here."""
    if here is None or there is None:
        return here or there
    for table in ORDERED:
        ids, cuts = here.ids[table], here.layout.borders[table]
        if not np.array_equal(there.ids[table][: len(ids)], ids) or there.layout.borders[table][: len(cuts)] != cuts:
            return here
    return there


def arrange(release: Dataset, earlier: EarlierRows | None, size: int) -> tuple[Dataset, Layout]:
    """Return the release with its records in row order, mentions of one sentence together in a range, and the layout.

    New rows are cut into ranges of `size`. Raises DatasetError for an empty release.
    """
    if not release.mentions or not release.entities:
        raise DatasetError(
            f"{release.name} has {len(release.mentions)} mentions and {len(release.entities)} entities: nothing to do"
        )
    if earlier and any(stop - start > size for start, stop in earlier.layout.borders["entity"]):
        say(f"existing rows stay in their larger shards; --shard-rows {size} applies to new ones. See --reorder")
    earlier = earlier or EarlierRows(dict.fromkeys(ORDERED, NO_IDS), Layout({"entity": [], "mention": []}, ()))
    groups = {"entity": None, "mention": np.array([mention.sentence for mention in release.mentions], object)}
    orders, cuts, counts = {}, {}, []
    for number, (table, records) in enumerate((("entity", release.entities), ("mention", release.mentions))):
        together, before = groups[table], earlier.layout.borders[table]
        orders[table], homes = _order(_places(table, records, earlier.ids[table]), together, before)
        ends = [generation[number] for generation in earlier.layout.generations]
        ordered = None if together is None else together[orders[table]].tolist()
        cuts[table], stops = _cut(homes, ordered, before, ends, size)
        counts.append(stops)
    entities = _ordered(release.entities, orders["entity"])
    mentions = [release.mentions[row] for row in orders["mention"]]
    generations = dict.fromkeys(pair for pair in zip(*counts, strict=True) if any(pair))
    return replace(release, entities=entities, mentions=mentions), Layout(cuts, tuple(generations))


def _ordered(entities: Sequence[Entity], order: np.ndarray) -> Sequence[Entity]:
    """Return entities in an order, as they are where it is their own."""
    if np.array_equal(order, np.arange(len(order))):
        return entities
    found = (entities[row] for row in order.tolist())
    return list(found) if isinstance(entities, list) else Entities(found)


def _places(table: str, records: Sequence[Entity | Mention], ids: np.ndarray) -> np.ndarray:
    """Return the earlier row of each record, -1 where it is new; of equal ids the first is the first."""
    places = np.full(len(records), -1)
    if not len(ids):
        return places
    # equal ids side by side: the earlier ones in order, then the new ones, of which the first take their places
    together = np.concatenate([ids, StringColumn(records, "id")[:]])
    order = np.argsort(together, kind="stable")
    together = together[order]
    begins = np.flatnonzero(np.concatenate([[True], together[1:] != together[:-1]]))
    counts = np.diff(np.append(begins, len(order)))
    was = np.add.reduceat((order < len(ids)).astype(np.int64), begins)
    nth = np.arange(len(order)) - np.repeat(begins + was, counts)  # of the new ones of this id
    kept_ones = (nth >= 0) & (nth < np.repeat(was, counts))
    places[order[kept_ones] - len(ids)] = order[np.flatnonzero(kept_ones) - np.repeat(was, counts)[kept_ones]]
    kept = int((places >= 0).sum())
    if kept < KEPT * len(ids):
        say(f"{table} rows are numbered anew: only {kept:,} of the earlier cache's {len(ids):,} are in the release")
        return np.full(len(places), -1)
    if kept < len(ids) or kept < len(places):
        say(
            f"{kept:,} {table} rows keep their places in the existing cache, {len(places) - kept:,} are new, "
            f"{len(ids) - kept:,} are gone; --reorder numbers all rows anew"
        )
    return places


def _order(places: np.ndarray, groups: np.ndarray | None, cuts: Borders) -> tuple[np.ndarray, np.ndarray]:
    """Return the records in row order, groups kept together in their range, and each one's home in that order.

    A home is the index of the earlier range that a row stays in, -1 for a row behind all of them.
    """
    end = cuts[-1][1] if cuts else 0
    homes = np.searchsorted([start for start, _ in cuts], places, "right") - 1  # -1 where it is new
    wanted = np.where(places >= 0, places, end + np.arange(len(places)))
    if groups is None:
        order = np.argsort(wanted, kind="stable")
        return order, homes[order]
    first: dict[tuple[int, str], int] = {}
    for row in np.argsort(wanted, kind="stable").tolist():
        first.setdefault((homes[row], groups[row]), int(wanted[row]))
    leaders = np.array([first[key] for key in zip(homes, groups, strict=True)])
    order = np.lexsort((wanted, leaders))
    return order, homes[order]


def _cut(
    homes: np.ndarray, groups: list[str] | None, cuts: Borders, ends: list[int], size: int
) -> tuple[Borders, tuple[int, ...]]:
    """Return the ranges of the rows, and how many rows the generations that ended at `ends` and the newest have."""
    counts = np.bincount(homes[homes >= 0], minlength=len(cuts))
    stops = np.cumsum(counts)
    kept = int(counts.sum())
    old = [(int(stop - count), int(stop)) for stop, count in zip(stops, counts, strict=True) if count]
    new = [(kept + start, kept + stop) for start, stop in borders(len(homes) - kept, size, groups and groups[kept:])]
    before = [int(sum(count for (start, _), count in zip(cuts, counts, strict=True) if start < end)) for end in ends]
    return old + new, (*before, len(homes))


def column(folder: Path, manifest: Manifest, name: ColumnName) -> np.ndarray:
    """Return a column of a cache (n, ...).  Raises CacheError where it has none, and for a shard that is damaged."""
    part, short = name.apart()
    if (spec := manifest.column(name)) is None:
        raise CacheError(f"{folder} holds no {name}")
    pieces = []
    for shard in manifest.shards_of(part):
        with store.open_shard(folder / shard.file):
            data = store.read_regular(folder / shard.file, shard.bytes)
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise CacheError(f"{folder / shard.file} is damaged")
        count, offset = shard.rows * math.prod(spec.shape), shard.columns[short].offset
        pieces.append(np.frombuffer(data, spec.dtype, count, offset).reshape(-1, *spec.shape))
    return np.concatenate(pieces)
