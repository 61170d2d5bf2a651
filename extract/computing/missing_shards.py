"""Compute the missing shards of a plan, range by range, beside any other process that does."""

import bisect
import contextlib
import time
from collections.abc import Callable, Iterable

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
                counts = [self._rows(item) * len(_parts(item.missing)) for item in ranges]
                with Progress(sum(counts), name, "rows") as progress:
                    self._share(ranges, claims, progress.advance)

    def _share(self, ranges: list[Todo], claims: Claims, advance: Callable[[int], None]) -> None:
        """Finish all ranges of a table: what others are at is waited for, or taken over where they have ended."""
        waiting, told = ranges, False
        while waiting:
            left: list[Todo] = []
            for item in waiting:
                if not self._take(item, left, claims, advance):
                    left.append(item)
            if len(left) == len(waiting):
                if not told:
                    say(f"{ranges[0].table}: {len(left):,} ranges are being computed by other processes; waiting")
                told = True
                time.sleep(POLL)
            waiting = left

    def _take(self, item: Todo, before: list[Todo], claims: Claims, advance: Callable[[int], None]) -> bool:
        """Finish a range unless another process is at it, or at one `before` it whose rows this one copies."""
        if item.missing and before and self._copies(item, {other.index for other in before}):
            return False
        with claims.held(item.table, item.index) if item.missing else contextlib.nullcontext(True) as mine:
            if not mine:
                return False
            missing = [shard for shard in item.missing if not self.draft.adopt(shard)]
            advance(self._rows(item) * len(_parts(item.missing) - _parts(missing)))
            self.clock.start()
            self._finish(Range(self.plan, self.draft, item.table, item.index, missing, advance, self.clock))
        return True

    def _copies(self, item: Todo, unfinished: set[int]) -> bool:
        """Whether a range has something that a row of an unfinished range of its table owns."""
        if item.table == "pair":
            return False
        start, stop = self.plan.borders[item.table][item.index]
        owners = {owner.row for row in range(start, stop) for owner in self.plan.owners.asked(item.table, row)
                  if owner.table == item.table and not start <= owner.row < stop}  # fmt: skip
        stops = [stop for _, stop in self.plan.borders[item.table]]
        return not unfinished.isdisjoint(bisect.bisect_right(stops, row) for row in owners)

    def counters(self) -> str:
        """Return as a table how much each encoder has encoded, and where the shards are from; without zeros."""
        counts = {"pictures decoded": self.pictures.decoded}
        for encoder in self.encoders.by_role.values():
            counts |= {f"{what}, {encoder.name}": count for what, count in encoder.counts.items()}
        counts |= {"shards computed": self.draft.made, "shards fetched": self.draft.fetched}
        counts |= {"shards of caches beside": self.draft.taken, "shards present locally": self.draft.kept}
        return table(("done", "count"), [(what, f"{count:,}") for what, count in counts.items() if count])

    def _rows(self, item: Todo) -> int:
        start, stop = self.plan.borders[item.table][item.index]
        return stop - start

    def _finish(self, rows: Range) -> None:
        if rows.table != "pair":
            self.texts.fill(rows)
            self.pictures.fill(rows)
        self.derived.fill(rows)
        rows.save_all()


def _parts(shards: Iterable[ShardPlan]) -> set[str]:
    return {shard.part.name for shard in shards}
