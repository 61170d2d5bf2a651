"""Fill what BERT and CLIP make of texts: each distinct one once."""

import numpy as np

from cache.names import ColumnName, PartName
from extract.computing.row_range import Range
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.duplicates import Slot
from extract.planning.rows import entity_text
from extract.planning.shards import Plan


class Texts:
    """The text encoders at work on a plan."""

    def __init__(self, plan: Plan, encoders: Encoders, config: ExtractConfig) -> None:
        self._plan, self._encoders, self._config = plan, encoders, config

    def fill(self, rows: Range) -> None:
        """Fill every missing text column of a range; publish the parts that are whole with it."""
        if "entity.bert" in rows:
            self._entities(rows)
        if "mention.bert" in rows or "token.bert" in rows:
            self._sentences(rows)
        if "mention.tokens" in rows:
            self._places(rows)
        rows.save("entity.bert", "token.bert", "mention.tokens", "mention.bert")
        if "clip_token.clip" in rows:
            self._clip_tokens(rows)
        if "mention.clip_tokens" in rows:
            self._point(rows, "mention.clip_tokens", "clip_token")
        rows.save("clip_token.clip", "mention.clip_tokens")
        if f"{rows.table}.clip" in rows:
            self._clip(rows)

    def _entities(self, rows: Range) -> None:
        texts = {row: entity_text(self._plan.rows.entities[row]) for row in rows.rows}
        owners = {row: self._plan.owners.of_entity_text(row) for row in texts}
        own = [row for row, owner in owners.items() if owner == row]
        for batch in self._encoders.bert.encode([texts[row] for row in own], self._config.entity_tokens):
            at = [own[i] for i in batch.index]
            for column, values in (("text", batch.cls), ("mean", batch.mean), ("pooler", batch.pooler)):
                rows.put(f"entity.bert.{column}", at, values)
            rows.put("entity.bert.truncated", at, batch.truncated)
            rows.tick("entity.bert", len(at))
        part = self._plan.parts["entity.bert"]
        for column in map(part.name.column, part.columns):
            rows.copy(column, {row: Slot(column, owner) for row, owner in owners.items() if owner != row})

    def _sentences(self, rows: Range) -> None:
        """Fill mention.bert and token.bert, whichever is missing, from one pass over the sentences."""
        mentions = self._plan.rows.mentions
        by_sentence: dict[str, list[int]] = {}
        for row in rows.rows:
            by_sentence.setdefault(mentions[row].sentence, []).append(row)
        groups = list(by_sentence.values())
        spans = [[(mentions[row].start, mentions[row].end) for row in group] for group in groups]
        for batch in self._encoders.bert.encode(list(by_sentence), self._config.sentence_tokens, spans):
            for i, states, cls, cut, vectors, found in zip(
                batch.index, batch.states, batch.cls, batch.truncated, batch.spans, batch.found, strict=True
            ):
                at = groups[i]
                rows.put("mention.bert.span", at, vectors)
                rows.put("mention.bert.found", at, found)
                rows.put("mention.bert.cls", at, np.tile(cls, (len(at), 1)))
                rows.put("mention.bert.truncated", at, np.full(len(at), cut))
                rows.tick("mention.bert", len(at))
                if "token.bert" in rows:
                    rows.put("token.bert.vector", self._plan.sentences["token"].tokens_of(at[0]), states)
                    rows.tick("token.bert", len(at))

    def _places(self, rows: Range) -> None:
        """Say where each mention's tokens are, and which of them are under it."""
        self._point(rows, "mention.tokens", "token")
        mentions = [self._plan.rows.mentions[row] for row in rows.rows]
        limit = self._config.sentence_tokens
        tokens = {text: self._encoders.bert.tokens(text, limit) for text in {m.sentence for m in mentions}}
        under = np.array([tokens[m.sentence].under((m.start, m.end)) for m in mentions])
        rows.put("mention.tokens.start", rows.rows, under[:, 0])
        rows.put("mention.tokens.end", rows.rows, under[:, 1])

    def _point(self, rows: Range, part: str, table: str) -> None:
        sentences = self._plan.sentences[table]
        rows.put(f"{part}.first", rows.rows, sentences.first[rows.start : rows.stop])
        rows.put(f"{part}.count", rows.rows, sentences.count[rows.start : rows.stop])

    def _clip_tokens(self, rows: Range) -> None:
        sentences = self._plan.sentences["clip_token"]
        texts = sentences.between(rows.start, rows.stop)
        edges = sentences.edges_between(rows.start, rows.stop)
        for first, states in zip(edges, self._encoders.clip.encode_tokens(texts), strict=False):  # one edge more
            rows.put("clip_token.clip.vector", first + np.arange(len(states)), states)

    def _clip(self, rows: Range) -> None:
        """Fill the text columns of a clip part; `truncated` says whether any text of the row was cut."""
        part = PartName(f"{rows.table}.clip")
        texts = {
            Slot(part.column(column), row): text
            for row in rows.rows
            for column, text in self._plan.owners.clip_texts(rows.table, row).items()
        }
        owners = {slot: self._plan.owners.of_clip_text(rows.table, text) for slot, text in texts.items()}
        own = [slot for slot, owner in owners.items() if owner == slot]
        vectors = self._encoders.clip.encode_texts([texts[slot] for slot in own], lambda: rows.tick(part, 0))
        for column in dict.fromkeys(slot.column for slot in texts):
            at = [i for i, slot in enumerate(own) if slot.column == column]
            rows.put(column, [own[i].row for i in at], vectors[at])
        copies: dict[ColumnName, dict[int, Slot]] = {}
        for slot, owner in owners.items():
            if owner != slot:
                copies.setdefault(slot.column, {})[slot.row] = owner
        for column, slots in copies.items():
            rows.copy(column, slots)
        cut = {slot.row for slot, text in texts.items() if self._encoders.clip.is_cut(text)}
        rows.put(part.column("truncated"), rows.rows, np.array([row in cut for row in rows.rows]))
