"""What the encoders would be given for the missing shards of a plan: distinct texts and pictures, by part."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cache.names import PartName
from cache.schema import SEQUENCES
from cache.writing.writer import Todo
from extract.planning.duplicates import MENTIONS_ONLY, Row
from extract.planning.rows import entity_text
from extract.planning.shards import Plan

PICTURE_KINDS = ("resnet", "clip", "objects", "regions", "crops")  # of parts that are made of pictures


class Workload:
    """Texts and pictures that the ranges with something missing have to encode.

    `text_items` and `picture_items` are those by part. Where two parts come from one pass of an encoder, the first
    has the items and the other none: token.bert with mention.bert, mention.regions with mention.resnet.
    """

    def __init__(self, plan: Plan, todo: Sequence[Todo]) -> None:
        self._plan = plan
        self.text_items: dict[str, list[str]] = defaultdict(list)
        self.picture_items: dict[str, list[Path]] = defaultdict(list)
        self.decoded: dict[Row, Path] = {}  # pictures that are opened
        for item in todo:
            parts = dict.fromkeys(shard.part.name for shard in item.missing)
            rows = range(*plan.borders[item.table][item.index])
            for part in parts:
                self.text_items[part] += self._texts(part, rows, "mention.bert" in parts)
                self.picture_items[part] += self._pictures(part, rows, "mention.resnet" in parts)

    def _texts(self, part: PartName, rows: range, with_mentions: bool) -> Iterator[str]:
        plan, table = self._plan, part.table
        mentions = plan.rows.mentions
        if part == "entity.bert":
            own = (row for row in rows if plan.owners.of_entity_text(row) == row)
            yield from (entity_text(plan.rows.entities[row]) for row in own)
        elif part == "mention.bert" or part == "clip_token.clip" or (part == "token.bert" and not with_mentions):
            yield from dict.fromkeys(mentions[row].sentence for row in rows)
        elif part.kind == "clip" and table not in SEQUENCES:
            for row in rows:
                for column, text in plan.owners.clip_texts(table, row).items():
                    if plan.owners.of_clip_text(table, text) == (part.column(column), row):
                        yield text

    def _pictures(self, part: PartName, rows: range, with_resnet: bool) -> Iterator[Path]:
        table, kind = part.table, part.kind
        if table not in ("entity", "mention") or kind not in (*PICTURE_KINDS, "ids"):
            return
        owners, records = self._plan.owners, self._plan.rows.records(table)
        for row in rows:
            shared = owners.owns_picture(table, row)
            if owners.of_picture(part, row) == (table, row) if part in MENTIONS_ONLY else shared:
                path = self.decoded[Row(table, row)] = records[row].image.path
                if kind != "ids" and not (kind == "regions" and with_resnet and shared):  # ids hold why one is none
                    yield path
