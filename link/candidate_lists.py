"""Which entities are ranked for a mention: given ids, the cache's own list, or the entities with the nearest names."""

from collections.abc import Mapping, Sequence

import numpy as np

from cache.names import PartName
from cache.reader import Reader
from common.errors import ConfigError
from extract.retrieval import by_name

RETRIEVED = "rapidfuzz"  # how the origin of lists begins that an extraction has retrieved


class CandidateLists:
    """The lists of mentions.  `released`: those of the cache are the release's own, not retrieved.

    `names` and `rows` are those of all entities, `length` is that of the cache's lists. With `grown` entities that the
    cache does not have its lists are not used.
    """

    def __init__(self, reader: Reader, names: Sequence[str], rows: Mapping[str, int], *, grown: bool) -> None:
        self._reader, self._names, self._rows, self._grown = reader, names, rows, grown
        self._length = min(reader.manifest.candidates, len(names))
        self._known = {name: reader.column(f"pair.candidates.{name}") for name in ("candidates", "lexical")}
        self._prepared = by_name.Names(names, list(rows))
        origin = str(reader.manifest.parts[PartName("pair.candidates")].recipe.get("origin"))
        self.released = not origin.startswith(RETRIEVED)

    def of(
        self, surfaces: Sequence[str], known: np.ndarray, given: Sequence[Sequence[str] | None], where: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the candidates of n mentions, int32 (n, C), -1 = padding, and their string scores (n, C).

        `known` (n,) are rows in the cache, -1 where it does not have the mention; `given` ids come before all else.
        Raises ConfigError, saying `where`, for an id that no entity has.
        """
        lists = [None if ids is None else self._given(ids, place) for ids, place in zip(given, where, strict=True)]
        width = max([self._reader.manifest.candidates, *(len(rows) for rows in lists if rows is not None)])
        found, scores = np.full((len(surfaces), width), -1, np.int32), np.zeros((len(surfaces), width), np.float32)
        asked = [place for place, rows in enumerate(lists) if rows is None and (self._grown or known[place] < 0)]
        best = self._prepared.best([surfaces[place] for place in asked], self._length) if asked else ((), ())
        for place, rows, values in zip(asked, *best, strict=True):
            found[place, : len(rows)], scores[place, : len(rows)] = rows, values
        for place, rows in enumerate(lists):
            if rows is not None and len(rows):
                found[place, : len(rows)] = rows
                names = [self._names[row] for row in rows]
                scores[place, : len(rows)] = by_name.lexical([surfaces[place]], names, np.arange(len(rows))[None])[0]
            elif rows is None and known[place] >= 0 and not self._grown:
                held = self._known["candidates"].shape[1]
                found[place, :held] = self._known["candidates"][known[place]]
                scores[place, :held] = self._known["lexical"][known[place]]
        return found, scores

    def _given(self, ids: Sequence[str], where: str) -> list[int]:
        if isinstance(ids, str) or not all(isinstance(id, str) for id in ids):
            raise ConfigError(f"{where}: candidates must be a list of ids of entities")
        if lost := [id for id in ids if id not in self._rows]:
            more = f" ({len(lost) - 1:,} more are none)" if lost[1:] else ""
            raise ConfigError(f"{where}: candidate {lost[0]!r:.60} is no entity of the cache{more}. Expected its ids")
        return [self._rows[id] for id in dict.fromkeys(ids)]
