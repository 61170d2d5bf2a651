"""Fill what the text and the joint encoder make of texts: each distinct one once."""

from functools import partial

import numpy as np

from cache import kinds
from cache.kinds import KINDS, Source
from cache.names import ColumnName, PartName
from extract.computing.overlap import ENCODING, Spans
from extract.computing.row_range import Range
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.duplicates import Slot
from extract.planning.rows import entity_text
from extract.planning.shards import Plan


class Texts:
    """The text encoders at work on a plan."""

    def __init__(self, plan: Plan, encoders: Encoders, config: ExtractConfig, spans: Spans | None = None) -> None:
        self._plan, self._encoders, self._config = plan, encoders, config
        self._spans = spans or Spans()

    def fill(self, rows: Range) -> None:
        """Encode every text that the range owns; publish the parts that are whole with it, leave copies for later."""
        for part in _missing(rows, "name"):
            self._names(rows, part)
        if sentences := _missing(rows, "sentence", "sentences", role="text"):
            self._sentences(rows, sentences)
        for part in (places := _missing(rows, "places")):
            self._places(rows, part)
        rows.save(*_missing(rows, "name"), *sentences, *places)
        if tokens := _missing(rows, "sentences", role="joint"):
            self._tokens(rows, tokens)
        rows.save(*tokens)
        for part in _missing(rows, "texts"):
            self._texts(rows, part)

    def _names(self, rows: Range, part: PartName) -> None:
        """Fill a part of the one text of each entity."""
        texts = {row: entity_text(self._plan.rows.entities[row]) for row in rows.rows}
        owners = {row: self._plan.owners.of_entity_text(row) for row in texts}
        own = [row for row, owner in owners.items() if owner == row]
        limit = self._config.most_tokens("name")
        encoded = self._encoders.text.encode([texts[row] for row in own], limit, source="name")
        for batch in self._spans.each(ENCODING, encoded):
            at = [own[i] for i in batch.index]
            for column, values in batch.of(part).items():
                rows.put(part.column(column), at, values)
            rows.tick(part, len(at))
        if repeats := {row: owner for row, owner in owners.items() if owner != row}:
            for column in map(part.column, self._plan.parts[part].columns):
                copies = {row: Slot(column, owner) for row, owner in repeats.items()}
                rows.later(partial(rows.copy, column, copies), part)

    def _sentences(self, rows: Range, parts: list[PartName]) -> None:
        """Fill the parts of mentions and of tokens that are missing from one pass over the sentences."""
        mentions = self._plan.rows.mentions
        by_sentence: dict[str, list[int]] = {}
        for row in rows.rows:
            by_sentence.setdefault(mentions[row].sentence, []).append(row)
        groups = list(by_sentence.values())
        spans = [[(mentions[row].start, mentions[row].end) for row in group] for group in groups]
        encoded = self._encoders.text.encode(list(by_sentence), self._config.most_tokens("sentence"), spans)
        for batch in self._spans.each(ENCODING, encoded):
            for part in parts:
                columns = batch.of(part)
                for place, i in enumerate(batch.index):
                    table = self._plan.sentences.get(part.table)
                    at = groups[i] if table is None else table.tokens_of(groups[i][0])
                    for column, values in columns.items():
                        rows.put(part.column(column), at, values[place])
                    rows.tick(part, len(groups[i]))

    def _places(self, rows: Range, part: PartName) -> None:
        """Say where each mention's tokens are, and which of them are under it."""
        sentences = self._plan.sentences[KINDS[part].into]
        rows.put(part.column("first"), rows.rows, sentences.first[rows.start : rows.stop])
        rows.put(part.column("count"), rows.rows, sentences.count[rows.start : rows.stop])
        if KINDS[part].role == "text":
            mentions = [self._plan.rows.mentions[row] for row in rows.rows]
            limit = self._config.most_tokens("places")
            tokens = {text: self._encoders.text.tokens(text, limit) for text in {m.sentence for m in mentions}}
            under = np.array([tokens[m.sentence].under((m.start, m.end)) for m in mentions])
            rows.put(part.column("start"), rows.rows, under[:, 0])
            rows.put(part.column("end"), rows.rows, under[:, 1])

    def _tokens(self, rows: Range, parts: list[PartName]) -> None:
        """Fill the parts of the joint encoder's tokens, all of one table, in one pass."""
        sentences = self._plan.sentences[parts[0].table]
        texts = sentences.between(rows.start, rows.stop)
        edges = sentences.edges_between(rows.start, rows.stop)
        encoded = self._encoders.joint.token_columns(texts, [part.kind for part in parts])
        for first, made in zip(edges, self._spans.each(ENCODING, encoded), strict=False):  # one edge more
            for part in parts:
                rows.put(part.column("vector"), first + np.arange(len(made[part.kind])), made[part.kind])

    def _texts(self, rows: Range, part: PartName) -> None:
        """Fill the text columns of a joint part; `truncated` says whether any text of the row was cut."""
        texts = {
            Slot(part.column(column), row): text
            for row in rows.rows
            for column, text in self._plan.rows.texts(rows.table, row).items()
        }
        owners = {slot: self._plan.owners.of_text(rows.table, slot.row, slot.column.column) for slot in texts}
        own = [slot for slot, owner in owners.items() if owner == slot]
        with self._spans.of(ENCODING):
            vectors = self._encoders.joint.encode_texts([texts[slot] for slot in own], lambda: rows.tick(part, 0))
        for column in dict.fromkeys(slot.column for slot in texts):
            at = [i for i, slot in enumerate(own) if slot.column == column]
            rows.put(column, [own[i].row for i in at], vectors[at])
        copies: dict[ColumnName, dict[int, Slot]] = {}
        for slot, owner in owners.items():
            if owner != slot:
                copies.setdefault(slot.column, {})[slot.row] = owner
        for column, slots in copies.items():
            rows.later(partial(rows.copy, column, slots), part)
        cut = {slot.row for slot, text in texts.items() if self._encoders.joint.is_cut(text)}
        rows.put(part.column("truncated"), rows.rows, np.array([row in cut for row in rows.rows]))


def _missing(rows: Range, *sources: Source, role: str = "") -> list[PartName]:
    """Return the parts missing of a range that read one of the sources, of a role if one is named."""
    return [
        part for source in sources for part in kinds.reading(source) if part in rows and role in ("", KINDS[part].role)
    ]
