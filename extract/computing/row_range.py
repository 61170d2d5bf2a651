"""A range of rows while its missing shards are computed."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from cache.names import ColumnName, PartName
from cache.writing.draft import Draft
from cache.writing.writer import Shard, ShardPlan
from extract.computing.overlap import Writing
from extract.computing.part_clock import Clock
from extract.computing.tasks import Task
from extract.planning.duplicates import Slot
from extract.planning.shards import Plan

COPIED = 256  # rows at a time; the regions of so many are 51 MB


class Range:
    """Rows `start` to `stop` of a table, and its parts of which some shard is not there yet: `part in range`.

    Rows are counted as in their table. `advance` is told how many rows of how many parts are done, `clock` for which
    part time was spent: storing a value ends what was done for it. `ready` is called before anything is copied from
    other ranges: they are finished when it returns. With `writing`, its thread stores batches and saves. `following`
    claims the task whose pictures are encoded next, so that they are decoded ahead; None where there is none.
    """

    def __init__(
        self,
        plan: Plan,
        draft: Draft,
        table: str,
        index: int,
        missing: list[ShardPlan],
        advance: Callable[[int], None],
        clock: Clock,
        ready: Callable[[], None] = lambda: None,
        writing: Writing | None = None,
        following: Callable[[], Task | None] = lambda: None,
    ) -> None:
        self.table, self.following, self._ready = table, following, ready
        self._owed: list[Callable[[], None]] = []
        self._owing: set[str] = set()
        self.start, self.stop = plan.borders[table][index]
        self._draft, self._advance, self._clock, self._writing = draft, advance, clock, writing
        self._missing: dict[str, list[ShardPlan]] = {}
        for shard in missing:
            self._missing.setdefault(shard.part.name, []).append(shard)
        self._whole = {part: _empty(plan, part, index) for part in self._missing}
        self._done = dict.fromkeys(self._missing, 0)
        self._stored: Future[None] | None = None  # the last batch of `place`

    def __contains__(self, part: str) -> bool:
        return part in self._whole

    @property
    def rows(self) -> range:
        """All rows of the range."""
        return range(self.start, self.stop)

    def put(self, column: str, rows: Any, values: Any) -> None:
        """Store values (n, ...) of rows (n,); of a part that is finished they are dropped."""
        part, name = ColumnName(column).apart()
        if part in self._whole:
            whole = self._whole[part]
            whole.put(name, np.asarray(rows, int) - whole.plan.start, values)
            self._clock.mark(part)

    def place(self, rows: Sequence[int], made: Mapping[PartName, Mapping[str, np.ndarray]]) -> None:
        """Store columns (n, ...) of parts at rows (n,), in the thread that writes; their time is counted already."""
        at = np.asarray(rows, int)
        found = [(self._whole[part], columns) for part, columns in made.items() if part in self._whole]

        def store() -> None:
            for whole, columns in found:
                for column, values in columns.items():
                    whole.put(column, at - whole.plan.start, values)

        self._stored = self._later(store)

    def _later(self, task: Callable[[], None]) -> Future[None] | None:
        if self._writing is not None:
            return self._writing.do(task)
        task()
        return None

    def spent(self, *parts: str) -> None:
        """Count the time since values were stored for all of these parts together."""
        self._clock.mark(*parts)

    def get(self, column: str, rows: Any) -> np.ndarray:
        """Return stored values of rows (n,) of this range, or of any that are finished."""
        part, name = ColumnName(column).apart()
        rows = np.asarray(rows, int)
        held = self._writing.unsaved[part].copy() if self._writing is not None else []
        if part in self._whole:
            held.append((self._whole[part], self._stored))
        pieces, left = [], np.ones(len(rows), bool)
        for whole, stored in held:
            inside = left & (rows >= whole.plan.start) & (rows < whole.plan.start + whole.plan.rows)
            if inside.any():
                if stored is not None:
                    stored.result()
                pieces.append((inside, whole.get(name, rows[inside] - whole.plan.start)))
                left &= ~inside
        if left.any() or not pieces:
            pieces.append((left, self._draft.rows(column, rows[left])))
        found = np.empty((len(rows), *pieces[0][1].shape[1:]), pieces[0][1].dtype)
        for inside, values in pieces:
            found[inside] = values
        return found

    def copy(self, column: str, owners: Mapping[int, Slot]) -> None:
        """Copy values of repeated items: row -> the column and the row that own its item."""
        by_column: dict[str, list[tuple[int, int]]] = {}
        for row, (owner_column, owner) in owners.items():
            by_column.setdefault(owner_column, []).append((row, owner))
        for owner_column, pairs in by_column.items():
            for begin in range(0, len(pairs), COPIED):
                rows, sources = zip(*pairs[begin : begin + COPIED], strict=True)
                self.put(column, rows, self.get(owner_column, sources))

    def later(self, step: Callable[[], None], *parts: str) -> None:
        """Leave to `settle` what copies from other ranges, which may not be finished; until then no part is saved."""
        self._owed.append(step)
        self._owing.update(parts)

    def settle(self) -> None:
        """Do what was left for later, when the ranges that are copied from are finished."""
        if self._owed:
            self._ready()
            self._clock.start()
        self._owing.clear()
        while self._owed:
            self._owed.pop(0)()

    def tick(self, part: str, rows: int) -> None:
        """Report rows of a part as done, but never more than the range has."""
        if part in self._whole:
            done = self._done[part]
            self._done[part] = min(done + rows, len(self.rows))
            self._advance(self._done[part] - done)

    def save(self, *parts: str) -> None:
        """Publish the missing shards of those of the parts that are in the range and whole."""
        for part in parts:
            if part in self._whole and part not in self._owing:
                self.tick(part, len(self.rows))
                self._publish(part)
                self._clock.mark(part)

    def _publish(self, part: PartName) -> None:
        """Save the missing shards of a part; until they are there it is read from memory."""
        whole = self._whole.pop(part)
        unsaved = self._writing.unsaved[part] if self._writing is not None else []
        entry = (whole, self._stored)
        unsaved.append(entry)

        def save() -> None:
            with self._clock.beside(part):
                for shard in self._missing[part]:
                    self._draft.save(whole.cut(shard))
            unsaved.remove(entry)

        self._later(save)

    def save_all(self) -> None:
        """Publish what is left, ids last: they hold the verdicts on the pictures."""
        self.save(*sorted(self._whole, key=lambda part: PartName(part).kind == "ids"))


def _empty(plan: Plan, part: str, index: int) -> Shard:
    whole = plan.whole(part, index)
    return Shard(whole, lambda row: plan.label(whole.part.table, row))
