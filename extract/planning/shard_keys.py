"""The key of every range of rows: what its shards must hold, known before it is computed."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np

from cache.fingerprint import content_hash, digest, shard_key
from cache.names import PartName
from cache.schema import SEQUENCES
from cache.writing.writer import PartPlan
from common.records import Face
from extract.planning.candidate_lists import Lists
from extract.planning.duplicates import Owners, Row
from extract.planning.layout import Borders, Sentences
from extract.planning.recipes import INPUTS
from extract.planning.rows import Rows, bert_content

OWN, OWN_OF_ENTITY = b"\1" * 32, b"\2" * 32


def home(table: str) -> str:
    """Return the table with whose ranges a part of `table` is computed: tokens with the mentions."""
    return "mention" if table in SEQUENCES else table


def piece_key(key: str, begin: int, end: int) -> str:
    """Return the key of a range's rows `begin` to `end`, counted from its start, where its part is cut."""
    return shard_key(key, [content_hash(begin, end)])


def _faces_content(faces: Sequence[Face]) -> bytes:
    """Return 32 bytes that stand for what --faces says of a mention's picture."""
    return bytes.fromhex(digest([list(astuple(face)) for face in faces]))


class Keys:
    """Keys of all ranges of all parts, which must stand in the order in which they are computed."""

    def __init__(
        self,
        parts: Mapping[str, PartPlan],
        borders: Mapping[str, Borders],
        rows: Rows,
        lists: Lists,
        owners: Owners,
        sentences: Mapping[str, Sentences],
    ) -> None:
        self._borders, self._rows, self._lists = borders, rows, lists
        self._owners, self._sentences = owners, sentences
        self._keys: dict[str, list[str]] = {}  # by part; owners come before those that copy them
        for name, part in parts.items():
            self._keys[name] = []
            for index, (begin, end) in enumerate(borders[home(part.table)]):
                contents = map(self.contents(part.name), range(begin, end))
                inputs = self._inputs(name, index, begin, end)
                self._keys[name].append(shard_key(part.fingerprint, [*contents, *inputs]))

    def of(self, part: str, index: int) -> str:
        """Return the key of a part's rows in a range."""
        return self._keys[part][index]

    def contents(self, part: PartName) -> Callable[[int], bytes]:
        """Return the function from a row to the bytes that stand for what the part reads of it.

        Where its vectors come from belongs to it: the owner's batch decides their last bits.
        """
        table, kind = part.table, part.kind
        if table in SEQUENCES:
            return self._sentence_content(self._sentences[table].of.tolist())
        if table == "pair":
            return self._pair_content
        text, pictures = self._rows.text_content[table], self._owners.pictures[table]
        if kind == "ids":
            return lambda row: (
                content_hash(*(str(c[row]) for c in self._rows.ids[part].values()), pictures[row][1])
                + text[row]
                + pictures[row][0]
            )
        if part == "entity.bert":
            return lambda row: bert_content(self._rows.entities[row]) + self._bert_origin(row)
        if part == "mention.bert":
            return lambda row: text[row]
        if kind == "clip":
            return lambda row: (
                text[row] + pictures[row][0] + self._picture_origin(part, row) + self._clip_origins(table, row)
            )
        if part in SEQUENCES.values():
            first = next(self._sentences[t].first.tolist() for t, pointer in SEQUENCES.items() if pointer == part)
            return lambda row: text[row] + content_hash(first[row])
        if part == "mention.attributes":
            faces = self._rows.faces
            return lambda row: b"" if faces is None else _faces_content(faces[row])
        return lambda row: pictures[row][0] + self._picture_origin(part, row)

    def _inputs(self, part: str, index: int, begin: int, end: int) -> Iterator[bytes]:
        """Yield the keys of the ranges that a part derives from: equal texts may differ in the last bits elsewhere."""
        listed = self._lists.candidates[begin:end] if part == "pair.alignment" else np.array([])
        ranges = sorted({self._range("entity", int(row)) for row in np.unique(listed[listed >= 0])})
        for name in INPUTS.get(part, ()):
            for i in ranges if name.startswith("entity") else [index]:
                yield bytes.fromhex(self._keys[name][i])

    def _sentence_content(self, of: list[int]) -> Callable[[int], bytes]:
        """Return the function from a mention to the hash of its sentence `of[row]`, b"" but for the first one of it."""
        mentions = self._rows.mentions
        return lambda row: content_hash(mentions[row].sentence) if row == 0 or of[row - 1] != of[row] else b""

    def _pair_content(self, row: int) -> bytes:
        texts, pictures = self._rows.text_content, self._owners.pictures
        entities = [int(e) for e in self._lists.candidates[row]]
        own = texts["mention"][row] + pictures["mention"][row][0]
        gold = int(self._lists.gold[row])
        there = [texts["entity"][e] + pictures["entity"][e][0] if e >= 0 else b"" for e in entities]
        scores = self._lists.lexical[row].tobytes() + self._lists.lexical_gold[row].tobytes()
        return content_hash(gold, *entities) + scores + own + b"".join(there)

    def _bert_origin(self, row: int) -> bytes:
        return self._origin(PartName("entity.bert"), row, Row("entity", self._owners.of_entity_text(row)))

    def _clip_origins(self, table: str, row: int) -> bytes:
        origins = []
        for column, text in self._owners.clip_texts(table, row).items():
            owner = self._owners.of_clip_text(table, text)
            origins.append(owner.column.column.encode() if column != owner.column.column else b"")
            origins.append(self._origin(PartName(f"{table}.clip"), row, Row(owner.column.table, owner.row)))
        return b"".join(origins)

    def _picture_origin(self, part: PartName, row: int) -> bytes:
        owner = self._owners.of_picture(part, row)
        if owner is None:
            return b""
        if owner == (part.table, row) and not self._owners.owns_picture(*owner):
            return OWN_OF_ENTITY  # encoded in other batches than pictures that no entity has
        return self._origin(part, row, owner)

    def _origin(self, part: PartName, row: int, owner: Row) -> bytes:
        """Return 32 bytes that say where a row's vector is made: for itself, in its own shard, or in which other."""
        if owner == (part.table, row):
            return OWN
        index = self._range(*owner)
        if owner.table == part.table and index == self._range(part.table, row):
            return bytes(32)
        return bytes.fromhex(self._keys[f"{owner.table}.{part.kind}"][index])

    def _range(self, table: str, row: int) -> int:
        """Return the index of the range that a row lies in."""
        return bisect_right(self._borders[table], row, key=lambda border: border[0]) - 1
