"""Candidate lists as rows of the entity table: the release's own, or retrieved by name or by vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cache.schema import UNLABELED
from cache.writing.draft import Draft
from common.errors import DatasetError
from common.output import Progress, say
from common.records import Dataset
from extract.planning.rows import gold_rows, named_by, rows_of
from extract.reading.entity_columns import field
from extract.retrieval import by_name, by_vectors
from extract.retrieval.nearest import Mapped, Once
from extract.retrieval.sources import Sources

RECALLS = (1, 10, 100)


@dataclass(frozen=True)
class Lists:
    """`candidates` (N, C) int32 with -1 padding, `gold` (N,) its position, -1 or UNLABELED, `lexical` (N, C) in [0, 1].

    `lexical_gold` (N,) is gold's own score, be it listed or not; 0 where there is no gold.
    """

    candidates: np.ndarray
    gold: np.ndarray
    lexical: np.ndarray
    lexical_gold: np.ndarray
    origin: str

    @property
    def labeled(self) -> int:
        """How many mentions are labeled."""
        return int((self.gold != UNLABELED).sum())

    def recalls(self) -> dict[str, float | None]:
        """Return recall@k over all labeled mentions, nil gold counted as a miss; None where none is labeled."""
        ks = [k for k in RECALLS if k < self.candidates.shape[1]] + [self.candidates.shape[1]]
        found = by_name.recall_at_k(self.gold[self.gold != UNLABELED], ks) if self.labeled else [None] * len(ks)
        return dict(zip((f"recall@{k}" for k in ks), found, strict=True))


def make(dataset: Dataset, length: int, *, anew: bool = False) -> Lists:
    """Take the released lists where every mention has one, else, or `anew`, retrieve `length` entities by name."""
    names = field(dataset.entities, "name")
    surfaces = [mention.surface for mention in dataset.mentions]
    rows = rows_of(dataset.entities, named_by(dataset.mentions))
    listed = sum(mention.candidates is not None for mention in dataset.mentions)
    if 0 < listed < len(dataset.mentions) and not anew:
        raise DatasetError(
            f"{listed:,} of {len(dataset.mentions):,} mentions have a candidate list and the others none. Give all of "
            "them one (it may be empty), or none"
        )
    if listed and not anew:
        found = _released(dataset, rows)
        scores, origin = by_name.lexical(surfaces, names, found, aliases_of(dataset)), "the release"
    else:
        with Progress(len(set(surfaces)), "candidates", "strings") as progress:
            found, scores = by_name.retrieve(
                surfaces,
                names,
                min(length, len(names)),
                progress.advance,
                ids=field(dataset.entities, "id"),
                aliases=aliases_of(dataset),
            )
        origin = "rapidfuzz token_set_ratio of names, ties by name and id"
    return _lists(dataset, rows, found, scores, origin)


def blank(dataset: Dataset, length: int) -> Lists:
    """Return lists without candidates, `length` places each, for what is planned before vectors are there."""
    count, places = len(dataset.mentions), min(length, len(dataset.entities))
    gold = np.full(count, -1, np.int32)
    scores = np.zeros((count, places), np.float32)
    return Lists(np.full((count, places), -1, np.int32), gold, scores, scores[:, 0].copy(), "")


def by_sources(dataset: Dataset, length: int, sources: Sequence[str], draft: Draft) -> Lists:
    """Retrieve `length` entities by each of the sources, whose vectors a draft holds, and fuse them."""
    names, ids = field(dataset.entities, "name"), field(dataset.entities, "id")
    surfaces = [mention.surface for mention in dataset.mentions]
    retrieval = Sources(
        sources,
        names,
        ids,
        lambda name: Mapped(draft.pieces(name)),
        aliases_of(dataset),
        lambda source, *given: Once(*given),
    )
    steps = {source: len(set(surfaces)) if source == by_vectors.NAMES else len(surfaces) for source in sources}
    with Progress(sum(steps.values()), f"candidates by {' and '.join(sources)}", "mentions") as progress:
        found = retrieval.best(surfaces, draft.column, length, lambda source, count: progress.advance(count))
    scores = by_name.lexical(surfaces, names, found, aliases_of(dataset))
    rows = rows_of(dataset.entities, named_by(dataset.mentions))
    return _lists(dataset, rows, found, scores, by_vectors.origin(sources))


def aliases_of(dataset: Dataset) -> dict[int, tuple[str, ...]]:
    """Return the other names of those entities that have some, by row."""
    rows = rows_of(dataset.entities, dataset.aliases) if dataset.aliases else {}
    return {row: dataset.aliases[id] for id, row in rows.items()}


def _lists(dataset: Dataset, rows: dict[str, int], found: np.ndarray, scores: np.ndarray, origin: str) -> Lists:
    names = field(dataset.entities, "name")
    surfaces = [mention.surface for mention in dataset.mentions]
    golds = gold_rows(dataset.mentions, rows)
    own = by_name.lexical(surfaces, names, golds[:, None], aliases_of(dataset))[:, 0]
    return Lists(found, positions(found, golds), scores, own, origin)


def positions(found: np.ndarray, golds: np.ndarray) -> np.ndarray:
    """Return where each gold row stands among its candidates: (N, C), (N,) -> (N,) int32; -1 nowhere, or UNLABELED."""
    hits = (found == golds[:, None]) & (golds >= 0)[:, None]
    return np.where(hits.any(1), hits.argmax(1), np.minimum(golds, -1)).astype(np.int32)


def keep_needed(dataset: Dataset, lists: Lists) -> tuple[Dataset, Lists]:
    """Drop the entities that no mention has as gold or candidate (for a limited extraction).

    Raises DatasetError if none is left.
    """
    rows = rows_of(dataset.entities, named_by(dataset.mentions))
    golds = [rows[mention.gold] for mention in dataset.mentions if mention.gold is not None]
    needed = np.unique(np.concatenate([lists.candidates[lists.candidates >= 0], np.array(golds, np.int32)]))
    if not len(needed):
        raise DatasetError(
            f"the {len(dataset.mentions)} mentions that --limit keeps have neither gold nor candidates. Raise --limit"
        )
    renumber = np.full(len(dataset.entities) + 1, -1, np.int32)  # the last slot stands for padding
    renumber[needed] = np.arange(len(needed))
    say(f"limited to {len(dataset.mentions):,} mentions and the {len(needed):,} entities that they need")
    kept = replace(dataset, entities=[dataset.entities[row] for row in needed])
    return kept, replace(lists, candidates=renumber[lists.candidates])


def _released(dataset: Dataset, rows: dict[str, int]) -> np.ndarray:
    lists = [[rows[c] for c in dict.fromkeys(m.candidates or ())] for m in dataset.mentions]
    found = np.full((len(lists), max(1, *map(len, lists))), -1, np.int32)
    for row, items in enumerate(lists):
        found[row, : len(items)] = items
    return found
