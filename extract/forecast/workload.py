"""What the encoders would be given for the missing shards of a plan: distinct texts and pictures, by part."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cache import kinds
from cache.kinds import KINDS
from cache.names import PartName
from cache.writing.writer import Todo
from extract.planning.duplicates import Row
from extract.planning.rows import entity_text
from extract.planning.shard_keys import home
from extract.planning.shards import Plan


class Workload:
    """Texts and pictures that the ranges with something missing have to encode.

    `text_items` and `picture_items` are those by part. Where two parts come from one pass of an encoder, the first
    has the items and the other none: token.text with mention.text, mention.regions with mention.image.
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
                self.text_items[part] += self._texts(part, rows, parts)
                self.picture_items[part] += self._pictures(part, rows, parts)

    def _texts(self, part: PartName, rows: range, missing: Iterable[str]) -> Iterator[str]:
        owners, found, table = self._plan.owners, self._plan.rows, part.table
        for source in KINDS[part].reads:
            if source == "name":
                own = (row for row in rows if owners.of_entity_text(row) == row)
                yield from (entity_text(found.entities[row]) for row in own)
            elif source in ("sentence", "sentences") and KINDS[part].beside not in missing:
                texts = found.read[home(table)]
                yield from dict.fromkeys(texts[row] for row in rows)
            elif source == "texts":
                for row in rows:
                    for column, text in found.texts(table, row).items():
                        if owners.of_text(table, text) == (part.column(column), row):
                            yield text

    def _pictures(self, part: PartName, rows: range, missing: Iterable[str]) -> Iterator[Path]:
        table, made = part.table, KINDS[part]
        if not {"picture", "release"} & set(made.reads):
            return
        owners, records = self._plan.owners, self._plan.rows.records(table)
        for row in rows:
            shared = owners.owns_picture(table, row)
            if owners.of_picture(part, row) == (table, row) if kinds.mentions_alone(part) else shared:
                path = self.decoded[Row(table, row)] = records[row].image.path
                if made.role and not (made.beside in missing and shared):  # ids hold why a picture is none
                    yield path
