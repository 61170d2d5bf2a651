"""Compute the missing shards of a plan, range by range, beside any other process that does."""

import bisect
import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial

from cache.store.claims import Claims
from cache.writing.draft import Draft
from cache.writing.writer import ShardPlan, Todo
from common.output import Progress, say, table
from extract.computing.derived_parts import Derived
from extract.computing.part_clock import Clock
from extract.computing.picture_parts import Pictures
from extract.computing.row_range import Range
from extract.computing.text_parts import Texts
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.shards import RANGED, Plan

POLL = 0.5  # seconds between two looks at what others compute
SOON = 0.05  # at a range that is copied from: it was begun before


class Work:
    """One extraction under way.  `draft` holds what is finished, `clock` says how long each part took."""

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft, config: ExtractConfig) -> None:
        self.plan, self.encoders, self.draft, self.clock = plan, encoders, draft, Clock()
        self.texts = Texts(plan, encoders, config)
        self.pictures = Pictures(plan, encoders, config)
        self.derived = Derived(plan, encoders, draft)

    def go_by(self, plan: Plan) -> None:
        """Go on by a plan that differs in the lists alone: only pairs are left."""
        self.plan, self.derived = plan, Derived(plan, self.encoders, self.draft)

    def do(self, todo: list[Todo]) -> None:
        """Compute what is missing, a table at a time, but for what other processes do meanwhile."""
        with Claims(self.draft.folder) as claims:
            for name in RANGED:
                ranges = [item for item in todo if item.table == name]
                counts = [self.rows(item) * len(_parts(item.missing)) for item in ranges]
                with Progress(sum(counts), name, "rows") as progress:
                    Sharing(self, ranges, claims, progress.advance).finish()

    def copied(self, table: str, index: int) -> list[int]:
        """Return the other ranges of its table that own something of a range's rows, which come before it."""
        if table == "pair":
            return []
        start, stop = self.plan.borders[table][index]
        owners = {owner.row for row in range(start, stop) for owner in self.plan.owners.asked(table, row)
                  if owner.table == table and not start <= owner.row < stop}  # fmt: skip
        stops = [stop for _, stop in self.plan.borders[table]]
        return sorted({bisect.bisect_right(stops, row) for row in owners})

    def counters(self) -> str:
        """Return as a table how much each encoder has encoded, and where the shards are from; without zeros."""
        counts = {"pictures decoded": self.pictures.decoded}
        for encoder in self.encoders.by_role.values():
            counts |= {f"{what}, {encoder.name}": count for what, count in encoder.counts.items()}
        counts |= {"shards computed": self.draft.made, "shards fetched": self.draft.fetched}
        counts |= {"shards of caches beside": self.draft.taken, "shards present locally": self.draft.kept}
        return table(("done", "count"), [(what, f"{count:,}") for what, count in counts.items() if count])

    def rows(self, item: Todo) -> int:
        """Return how many rows a range has."""
        start, stop = self.plan.borders[item.table][item.index]
        return stop - start

    def _finish(self, rows: Range) -> None:
        """Compute a range: first what it owns, which depends on no other range of its table."""
        if rows.table != "pair":
            self.texts.fill(rows)
            self.pictures.fill(rows)
            rows.settle()
        self.derived.fill(rows)
        rows.save_all()


class Sharing:
    """The ranges of one table, which this process and others finish; `done` are those that are finished."""

    def __init__(self, work: Work, ranges: list[Todo], claims: Claims, advance: Callable[[int], None]) -> None:
        self._work, self._ranges, self._claims, self._advance = work, ranges, claims, advance
        self._by_index = {item.index: item for item in ranges}
        self._done: set[int] = set()

    def finish(self) -> None:
        """Finish all: what others are at is waited for, or taken over where they have ended."""
        waiting, told = self._ranges, False
        while waiting:
            left = [item for item in waiting if not self._take(item)]
            if len(left) == len(waiting):
                if not told:
                    table = left[0].table
                    say(f"{table}: {len(left):,} ranges are being computed by other processes; waiting")
                told = True
                time.sleep(POLL)
            waiting = left

    def _take(self, item: Todo) -> bool:
        """Finish a range unless another process is at it; return whether it is finished."""
        if item.index in self._done:
            return True
        work = self._work
        with self._claims.held(item.table, item.index) if item.missing else contextlib.nullcontext(True) as mine:
            if not mine:
                return False
            missing = [shard for shard in item.missing if not work.draft.adopt(shard)]
            self._advance(work.rows(item) * len(_parts(item.missing) - _parts(missing)))
            work.clock.start()
            ready = partial(self._await, item)
            work._finish(
                Range(work.plan, work.draft, item.table, item.index, missing, self._advance, work.clock, ready)
            )
        self._done.add(item.index)
        return True

    def _await(self, item: Todo) -> None:
        """Wait for the ranges that one copies from, and finish those of them that nobody is at.

        They stand before it, and so do those that they wait for: somebody always goes on.
        """
        for other in self._work.copied(item.table, item.index):
            while not self._take(self._by_index[other]):
                time.sleep(SOON)


def _parts(shards: Iterable[ShardPlan]) -> set[str]:
    return {shard.part.name for shard in shards}
