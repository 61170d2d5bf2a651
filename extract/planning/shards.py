"""What an extraction must produce: every part, and every shard's place and key, before anything is encoded."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np

from cache.kinds import KINDS
from cache.names import PartName
from cache.schema import SEQUENCES
from cache.writing.writer import PartPlan, ShardPlan, Todo
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning import recipes
from extract.planning.candidate_lists import Lists
from extract.planning.duplicates import Owners
from extract.planning.known import Known
from extract.planning.layout import Sentences, pieces
from extract.planning.rows import Rows
from extract.planning.shard_keys import Keys, home, piece_key

SHARD_BYTES = 64 << 20  # of a part on demand: the regions of 2,048 pictures are 411 MB
NOTHING: Mapping[PartName, str] = MappingProxyType({})


class Plan:
    """Parts, ranges of rows that are computed at a time, and the shards of each.

    The tokens of sentences belong to the range of mentions that the sentences are of. What an encoder is given
    together is always of one range. `listed` are the fingerprints of the cache that is there already, `known` is what
    another process has found. Raises ConfigError where that is of other parts.
    """

    def __init__(
        self,
        config: ExtractConfig,
        rows: Rows,
        lists: Lists,
        encoders: Encoders,
        listed: Mapping[PartName, str] = NOTHING,
        known: Known | None = None,
    ) -> None:
        self.rows, self.lists, self.owners = rows, lists, Owners(rows)
        self.parts = recipes.plan(config, encoders, lists, rows, listed)
        if known is not None:
            known.refuse_others(self.parts)

        def counts(part: PartName, texts: Sequence[str]) -> Sequence[int]:
            limit = config.most_tokens("sentences")
            return [encoders.of(part).count(text, limit) for text in texts]

        self.sentences = {
            table: Sentences.counted(
                rows.read[part.table],
                rows.layout.borders[part.table],
                partial(counts, part) if known is None else partial(known.counts, table),
            )
            for table, part in SEQUENCES.items()
            if part in self.parts
        }
        self.borders = rows.layout.borders | {"pair": rows.layout.borders["mention"]}
        given = (self.parts, self.borders, rows, lists, self.owners, self.sentences)
        self.keys = Keys(*given, None if known is None else known.keys)

    def tables(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        counts = {table: ranges[-1][1] for table, ranges in self.borders.items()}
        return counts | {table: sentences.rows for table, sentences in self.sentences.items()}

    def shards(self, table: str) -> Iterator[list[ShardPlan]]:
        """Yield the shards of each range of a table; a range of mentions has those of its tokens too."""
        made: Counter[str] = Counter()
        for index in range(len(self.borders[table])):
            found = []
            for part in self.parts.values():
                if home(part.table) == table:
                    found += self._shards(part, index, made[part.name])
                    made[part.name] = found[-1].index + 1
            yield found

    def whole(self, part: str, index: int) -> ShardPlan:
        """Return all rows of a part in a range, as if they were one shard."""
        edges = self._edges(self.parts[part], index)
        start, stop = int(edges[0]), int(edges[-1])
        return ShardPlan(self.parts[part], index, start, stop - start, self.keys.of(part, index))

    def label(self, table: str, row: int) -> str:
        """Return how messages call a row."""
        if table in self.sentences:
            return f"{table} {row}, of {self.sentences[table].sentence_at(row)[:40]!r}"
        return self.rows.label(table, row)

    def content(self) -> Iterator[bytes]:
        """Yield what stands for every row of the dataset, whatever the encoders: the manifest's dataset content."""
        for part in map(PartName, ("entity.ids", "mention.ids", "pair.candidates")):
            contents = self.keys.contents(part)
            for begin, end in self.borders[part.table]:
                yield from contents(begin, end)

    def _shards(self, part: PartPlan, index: int, following: int) -> Iterator[ShardPlan]:
        """Yield the shards of a part in a range, the first of them number `following`."""
        whole = self.whole(part.name, index)
        row_bytes = sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in part.stored.values())
        cuts = pieces(self._edges(part, index), max(1, SHARD_BYTES // row_bytes))
        for number, (start, stop) in enumerate(cuts, following):
            key = whole.key if len(cuts) == 1 else piece_key(whole.key, start - whole.start, stop - whole.start)
            yield ShardPlan(part, number, start, stop - start, key)

    def _edges(self, part: PartPlan, index: int) -> np.ndarray:
        """Return where a part may be cut in a range, its first row and the row behind its last included."""
        start, stop = self.borders[home(part.table)][index]
        if part.table in SEQUENCES:
            return self.sentences[part.table].edges_between(start, stop)
        return np.arange(start, stop + 1) if KINDS[part.name].on_demand else np.array([start, stop])


RANGED = ("entity", "mention", "pair")  # in the order of what derives from what; tokens are made with mentions


def missing(plan: Plan, finished: Callable[[ShardPlan], bool], tables: Sequence[str] = RANGED) -> list[Todo]:
    """Return every range of tables of a plan with those of its shards that are not finished."""
    return [
        Todo(table, index, [shard for shard in shards if not finished(shard)])
        for table in tables
        for index, shards in enumerate(plan.shards(table))
    ]
