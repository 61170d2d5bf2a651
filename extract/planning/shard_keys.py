"""The key of every range of rows: what its shards must hold, known before it is computed."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np

from cache.fingerprint import content_hash, digest, shard_key
from cache.kinds import KINDS, Source
from cache.names import PartName
from cache.schema import HOMES
from cache.writing.writer import PartPlan
from common.records import Face
from extract.planning.candidate_lists import Lists
from extract.planning.duplicates import Owners, Row
from extract.planning.layout import Borders, Sentences
from extract.planning.rows import Rows, name_content

Content = Callable[[int], bytes]  # of a row
OWN, OWN_OF_ENTITY = b"\1" * 32, b"\2" * 32


def home(table: str) -> str:
    """Return the table with whose ranges a part of `table` is computed: tokens with the rows that they are of."""
    return HOMES.get(table, table)


def piece_key(key: str, begin: int, end: int) -> str:
    """Return the key of a range's rows `begin` to `end`, counted from its start, where its part is cut."""
    return shard_key(key, [content_hash(begin, end)])


def _faces_content(faces: Sequence[Face]) -> bytes:
    """Return 32 bytes that stand for what --faces says of a mention's picture."""
    return bytes.fromhex(digest([list(astuple(face)) for face in faces]))


class Keys:
    """Keys of all ranges of all parts, which must stand in the order in which they are computed.

    `known` are these keys where they have been found before.
    """

    def __init__(
        self,
        parts: Mapping[PartName, PartPlan],
        borders: Mapping[str, Borders],
        rows: Rows,
        lists: Lists,
        owners: Owners,
        sentences: Mapping[str, Sentences],
        known: Mapping[str, list[str]] | None = None,
    ) -> None:
        self._borders, self._rows, self._lists = borders, rows, lists
        self._owners, self._sentences = owners, sentences
        self._keys: dict[PartName, list[str]] = {}  # by part; owners come before those that copy them
        if known is not None:
            self._keys = {name: known[name] for name in parts}
            return
        for name, part in parts.items():
            self._keys[name] = []
            for index, (begin, end) in enumerate(borders[home(part.table)]):
                contents = map(self.contents(part.name), range(begin, end))
                inputs = self._inputs(name, index, begin, end)
                self._keys[name].append(shard_key(part.fingerprint, [*contents, *inputs]))

    def of(self, part: str, index: int) -> str:
        """Return the key of a part's rows in a range."""
        return self._keys[part][index]

    def all(self, part: str) -> list[str]:
        """Return the keys of all ranges of a part."""
        return self._keys[part]

    def contents(self, part: PartName) -> Content:
        """Return the function from a row to the bytes that stand for what the part reads of it.

        The bytes also name the shard that the row's vector is copied from: the same text encoded in another batch
        can differ in its last bits.
        """
        made = KINDS[part]
        found = [self._contents[source](part) for source in made.reads]
        found += [origin(part) for source, origin in self._origins.items() if source in made.reads and made.role]
        if len(found) == 1:
            return found[0]
        return lambda row: b"".join(content(row) for content in found)

    def _inputs(self, part: PartName, index: int, begin: int, end: int) -> Iterator[bytes]:
        """Yield the keys of the ranges that a part derives from: another batch gives a text other last bits."""
        ranges: dict[str, list[int]] = {}
        if "lists" in KINDS[part].reads:
            listed = np.unique(self._lists.candidates[begin:end])
            ranges["entity"] = sorted({self._range("entity", int(row)) for row in listed[listed >= 0]})
        for name in KINDS[part].inputs:
            for i in ranges.get(PartName(name).table, [index]):
                yield bytes.fromhex(self._keys[name][i])

    @property
    def _contents(self) -> dict[Source, Callable[[PartName], Content]]:
        """For each source, the function (part, row) -> bytes that stand for what is read of the row."""
        texts, pictures = self._rows.text_content, self._owners.pictures
        return {
            "release": self._release,
            "name": lambda part: lambda row: name_content(self._rows.entities[row]),
            "sentence": lambda part: texts["mention"].__getitem__,
            "texts": lambda part: texts[part.table].__getitem__,
            "sentences": self._sentence,
            "places": self._place,
            "picture": lambda part: lambda row: pictures[part.table][row][0],
            "faces": self._faces,
            "lists": lambda part: self._pair,
        }

    @property
    def _origins(self) -> dict[Source, Callable[[PartName], Content]]:
        """Where what is encoded once for many rows is encoded, in the order in which this stands in keys."""
        return {
            "picture": lambda part: lambda row: self._picture_origin(part, row),
            "name": lambda part: lambda row: self._origin(part, row, Row("entity", self._owners.of_entity_text(row))),
            "texts": lambda part: lambda row: self._text_origins(part, row),
        }

    def _release(self, part: PartName) -> Content:
        table, columns = part.table, list(self._rows.ids[part].values())
        texts, pictures = self._rows.text_content[table], self._owners.pictures[table]
        return lambda row: (
            content_hash(*(str(column[row]) for column in columns), pictures[row][1]) + texts[row] + pictures[row][0]
        )

    def _sentence(self, part: PartName) -> Content:
        """Return the function from a row to the hash of its text, b"" but for the first row of it."""
        texts, of = self._rows.read[home(part.table)], self._sentences[part.table].of.tolist()
        return lambda row: content_hash(texts[row]) if row == 0 or of[row - 1] != of[row] else b""

    def _place(self, part: PartName) -> Content:
        first = self._sentences[KINDS[part].into].first.tolist()
        if part.table == "entity":
            return lambda row: name_content(self._rows.entities[row]) + content_hash(first[row])
        texts = self._rows.text_content["mention"]
        return lambda row: texts[row] + content_hash(first[row])

    def _faces(self, part: PartName) -> Content:
        faces = self._rows.faces
        return lambda row: b"" if faces is None else _faces_content(faces[row])

    def _pair(self, row: int) -> bytes:
        texts, pictures = self._rows.text_content, self._owners.pictures
        entities = [int(e) for e in self._lists.candidates[row]]
        own = texts["mention"][row] + pictures["mention"][row][0]
        gold = int(self._lists.gold[row])
        there = [texts["entity"][e] + pictures["entity"][e][0] if e >= 0 else b"" for e in entities]
        scores = self._lists.lexical[row].tobytes() + self._lists.lexical_gold[row].tobytes()
        return content_hash(gold, *entities) + scores + own + b"".join(there)

    def _text_origins(self, part: PartName, row: int) -> bytes:
        origins, table = [], part.table
        for column, text in self._rows.texts(table, row).items():
            owner = self._owners.of_text(table, text)
            origins.append(owner.column.column.encode() if column != owner.column.column else b"")
            origins.append(self._origin(part, row, Row(owner.column.table, owner.row)))
        return b"".join(origins)

    def _picture_origin(self, part: PartName, row: int) -> bytes:
        owner = self._owners.of_picture(part, row)
        if owner is None:
            return b""
        if owner == (part.table, row) and not self._owners.owns_picture(*owner):
            return OWN_OF_ENTITY  # encoded in other batches than pictures that no entity has
        return self._origin(part, row, owner)

    def _origin(self, part: PartName, row: int, owner: Row) -> bytes:
        """Return 32 bytes that say in which shard a row's vector is computed.

        OWN if it is encoded for this row, zeros if it is copied within its range, else the key of the other range.
        """
        if owner == (part.table, row):
            return OWN
        index = self._range(*owner)
        if owner.table == part.table and index == self._range(part.table, row):
            return bytes(32)
        return bytes.fromhex(self._keys[f"{owner.table}.{part.kind}"][index])

    def _range(self, table: str, row: int) -> int:
        """Return the index of the range that a row lies in."""
        return bisect_right(self._borders[table], row, key=lambda border: border[0]) - 1
