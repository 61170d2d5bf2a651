"""Which entities are ranked for a mention: given ids, the cache's own list, or those that its retrieval finds."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from cache.names import PartName
from cache.reader import Reader
from cache.reader.row_index import RowIndex
from common.errors import ConfigError
from common.output import say
from extract.retrieval import by_name, sources
from extract.retrieval.by_name import NO_ALIASES, Aliases
from extract.retrieval.by_vectors import NAMES, VECTORS
from extract.retrieval.faiss_index import NEAREST, SAMPLE, Approximate, recall
from extract.retrieval.nearest import Mapped, Nearest, Places, Stored
from extract.retrieval.sources import Sources
from link.questions import QuestionError
from link.ranking.entity_search import kept

CANDIDATES = PartName("pair.candidates")


def retrieval_of(reader: Reader) -> tuple[str, ...] | None:
    """Return what retrieved the lists of a cache, None where they are a release's own."""
    return sources.named(str(reader.manifest.parts[CANDIDATES].recipe.get("origin")))


class CandidateLists:
    """The lists of mentions, as long as those of the cache; `names`, `ids` and `rows` by id are those of all entities.

    Where the cache's are a release's own, others are retrieved by name. With `grown` entities, that the cache does not
    have, its lists are not used. `aliases` are other names of some, by row. `index` is what searches vectors: exact
    or faiss.
    """

    def __init__(
        self,
        reader: Reader,
        names: Sequence[str],
        ids: Sequence[str],
        rows: RowIndex,
        *,
        grown: bool,
        aliases: Aliases = NO_ALIASES,
        index: str = "exact",
    ) -> None:
        self._index = index
        self._reader, self._names, self._ids, self._rows, self._grown = reader, names, ids, rows, grown
        self._aliases, self._length = aliases, reader.manifest.candidates
        self._known = {name: reader.column(f"{CANDIDATES}.{name}") for name in ("candidates", "lexical")}
        self._by = retrieval_of(reader) or (NAMES,)
        if index != "exact" and set(self._by) == {NAMES}:
            raise ConfigError(
                f"--index {index} is of vectors, and the lists of {reader.path} are retrieved by name: extract it with "
                "--candidates-from text, or leave --index out"
            )
        self.columns = [name for name in sources.columns(self._by) if name.startswith("mention.")]

    def of(
        self,
        surfaces: Sequence[str],
        columns: Mapping[str, np.ndarray],
        known: np.ndarray,
        lists: Sequence[Sequence[int] | None],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the candidates of n mentions, int32 (n, C), -1 = padding, and their string scores (n, C).

        `columns` (n, ...) are those that are named so, `known` (n,) rows in the cache, -1 where it does not have the
        mention; `lists` of entities that are given come before all else.
        """
        width = max([self._length, *(len(rows) for rows in lists if rows is not None)])
        found, scores = np.full((len(surfaces), width), -1, np.int32), np.zeros((len(surfaces), width), np.float32)
        listed = {place: rows for place, rows in enumerate(lists) if rows is not None}
        held = [place for place in range(len(lists)) if known[place] >= 0 and not self._grown and lists[place] is None]
        asked = sorted({*range(len(lists))} - {*listed, *held})
        for place, rows in listed.items():
            found[place, : len(rows)] = rows
        if asked:
            of = {name: columns[name][asked] for name in self.columns}
            best = self._retrieval.best([surfaces[place] for place in asked], of.__getitem__, self._length, _ignore)
            found[asked, : best.shape[1]] = best
        for place in (*listed, *asked):
            scores[place] = self.strings(surfaces[place], found[place])
        places = slice(self._known["candidates"].shape[1])
        found[held, places] = self._known["candidates"][known[held]]
        scores[held, places] = self._known["lexical"][known[held]]
        return found, scores

    def none(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `of` where no list has a part in what is ranked."""
        return np.full((count, self._length), -1, np.int32), np.zeros((count, self._length), np.float32)

    @cached_property
    def _retrieval(self) -> Sources:
        searching = {"searching": self._indexed if self._index == "faiss" else self._exactly}
        return Sources(
            self._by, self._names, self._ids, lambda name: Mapped(self._reader.pieces(name)), self._aliases, **searching
        )

    def _exactly(self, source: str, entities: Stored, order: Places) -> Nearest:
        """Return what finds the nearest entities, whose codes lie beside the shards where there are many."""
        return Nearest(entities, order, kept(self._reader, [VECTORS[source][1]]))

    def _indexed(self, source: str, entities: Stored, order: Places) -> Approximate:
        """Return an index of faiss, and say how much of the exact lists it finds for mentions of the cache."""
        index = Approximate(entities, order)
        mentions = sources.vectors(source, self._reader.column)
        some = mentions[np.linspace(0, len(mentions) - 1, min(SAMPLE, len(mentions))).astype(np.int64)]
        found = recall(index, entities, order, some)
        say(
            f"index faiss of {source} ({index.name}) finds {found:.1%} of the {NEAREST} nearest entities that the "
            f"exact search finds, over {len(some)} mentions of the cache"
        )
        return index

    def strings(self, surface: str, rows: np.ndarray) -> np.ndarray:
        """Return the string scores of a mention's candidates (C,), 0 for padding."""
        there = np.flatnonzero(rows >= 0)
        scores = np.zeros(len(rows), np.float32)
        listed = rows[there].tolist()
        others = {place: self._aliases[row] for place, row in enumerate(listed) if row in self._aliases}
        names = [self._names[row] for row in listed]
        scores[there] = by_name.lexical([surface], names, np.arange(len(names))[None], others)[0]
        return scores

    def given(self, ids: Sequence[str] | None, where: str) -> list[int] | None:
        """Return the rows of given ids.  Raises QuestionError, saying `where`, for one that no entity has."""
        if ids is None:
            return None
        if isinstance(ids, str) or not all(isinstance(id, str) for id in ids):
            raise QuestionError(f"{where}: candidates must be a list of ids of entities")
        found = {id: self._rows.find(id) for id in ids}
        if lost := [id for id, row in found.items() if row is None]:
            more = f" ({len(lost) - 1:,} more are none)" if lost[1:] else ""
            raise QuestionError(f"{where}: candidate {lost[0]!r:.60} is no entity of the cache{more}. Expected its ids")
        return [row for row in found.values() if row is not None]


def _ignore(source: str, count: int) -> None:
    """Tell nobody how many mentions are done."""
