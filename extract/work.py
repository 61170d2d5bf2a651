"""Compute the missing shards of a plan, range by range."""

from cache.draft import Draft
from common.log import Progress
from extract.config import ExtractConfig
from extract.derived import Derived
from extract.encoders import Encoders
from extract.pictures import Pictures
from extract.plan import Plan
from extract.ranges import Range
from extract.texts import Texts


class Work:
    """One extraction under way.  `draft` holds what is finished."""

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft, config: ExtractConfig) -> None:
        self.plan, self.encoders, self.draft = plan, encoders, draft
        self.texts = Texts(plan, encoders, config)
        self.pictures = Pictures(plan, encoders, config)
        self.derived = Derived(plan, encoders, draft)

    def table(self, table: str) -> None:
        """Finish every shard of a table, with mentions those of their sentences' tokens."""
        todo = []
        for index, shards in enumerate(self.plan.shards(table)):
            missing = [shard for shard in shards if not self.draft.adopt(shard)]
            start, stop = self.plan.borders[table][index]
            todo.append((index, missing, (stop - start) * len({shard.part.name for shard in missing})))
        with Progress(sum(rows for *_, rows in todo), table, "rows") as progress:
            for index, missing, _ in todo:
                self._finish(Range(self.plan, self.draft, table, index, missing, progress.advance))

    def counters(self) -> str:
        """Return how often each encoder ran and how many shards that made."""
        e = self.encoders
        return (
            f"decoded {self.pictures.decoded:,} pictures; encoded {e.bert.encoded:,} texts with BERT, "
            f"{e.clip.texts:,} texts, {e.clip.sentences:,} sentences token by token, "
            f"{e.clip.images - e.crops.encoded:,} pictures and {e.crops.encoded:,} crops with CLIP, "
            f"{e.resnet.encoded - e.objects.crops:,} pictures and {e.objects.crops:,} crops with ResNet, "
            f"{e.objects.pictures:,} pictures with the detector; {self.draft.made:,} shards made, "
            f"{self.draft.kept:,} kept"
        )

    def _finish(self, rows: Range) -> None:
        if rows.table != "pair":
            self.texts.fill(rows)
            self.pictures.fill(rows)
        self.derived.fill(rows)
        rows.save_all()
