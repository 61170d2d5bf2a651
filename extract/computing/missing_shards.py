"""Compute the missing shards of a plan, range by range."""

from cache.writing.draft import Draft
from cache.writing.writer import Todo
from common.output import Progress, table
from extract.computing.derived_parts import Derived
from extract.computing.part_clock import Clock
from extract.computing.picture_parts import Pictures
from extract.computing.row_range import Range
from extract.computing.text_parts import Texts
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.shards import RANGED, Plan


class Work:
    """One extraction under way.  `draft` holds what is finished, `clock` says how long each part took."""

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft, config: ExtractConfig) -> None:
        self.plan, self.encoders, self.draft, self.clock = plan, encoders, draft, Clock()
        self.texts = Texts(plan, encoders, config)
        self.pictures = Pictures(plan, encoders, config)
        self.derived = Derived(plan, encoders, draft)

    def do(self, todo: list[Todo]) -> None:
        """Compute what is missing, a table at a time."""
        for name in RANGED:
            ranges = [item for item in todo if item.table == name]
            counts = [self._rows(item) * len({shard.part.name for shard in item.missing}) for item in ranges]
            with Progress(sum(counts), name, "rows") as progress:
                for item in ranges:
                    self.clock.start()
                    self._finish(
                        Range(self.plan, self.draft, name, item.index, item.missing, progress.advance, self.clock)
                    )

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
