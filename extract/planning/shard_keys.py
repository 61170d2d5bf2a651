"""The key of every range of rows: what its shards must hold, known before it is computed."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from itertools import repeat

import numpy as np

from cache.fingerprint import content_hash, digest, shard_key
from cache.kinds import KINDS, Source
from cache.names import PartName
from cache.schema import HOMES
from cache.writing.writer import PartPlan
from common.records import Face
from extract.planning.candidate_lists import Lists
from extract.planning.duplicates import Owners, Owning
from extract.planning.layout import Borders, Sentences
from extract.planning.rows import Rows

Contents = Callable[[int, int], Iterable[bytes]]  # of each of the rows from one to another
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
        self._starts = {table: np.array([begin for begin, _ in cuts], np.int64) for table, cuts in borders.items()}
        self._keys: dict[PartName, list[str]] = {}  # by part; owners come before those that copy them
        if known is not None:
            self._keys = {name: known[name] for name in parts}
            return
        for name, part in parts.items():
            self._keys[name] = []
            contents = self.contents(part.name)
            for index, (begin, end) in enumerate(borders[home(part.table)]):
                inputs = self._inputs(name, index, begin, end)
                self._keys[name].append(shard_key(part.fingerprint, [*contents(begin, end), *inputs]))

    def of(self, part: str, index: int) -> str:
        """Return the key of a part's rows in a range."""
        return self._keys[part][index]

    def all(self, part: str) -> list[str]:
        """Return the keys of all ranges of a part."""
        return self._keys[part]

    def contents(self, part: PartName) -> Contents:
        """Return the function from rows of one range to the bytes that stand for what the part reads of each.

        The bytes also name the shard that the row's vector is copied from: the same text encoded in another batch
        can differ in its last bits.
        """
        made = KINDS[part]
        found = [self._contents[source](part) for source in made.reads]
        found += [origin(part) for source, origin in self._origins.items() if source in made.reads and made.role]
        if len(found) == 1:
            return found[0]
        return lambda begin, end: map(b"".join, zip(*(content(begin, end) for content in found), strict=True))

    def _inputs(self, part: PartName, index: int, begin: int, end: int) -> Iterator[bytes]:
        """Yield the keys of the ranges that a part derives from: another batch gives a text other last bits."""
        ranges: dict[str, list[int]] = {}
        if "lists" in KINDS[part].reads:
            listed = np.unique(self._lists.candidates[begin:end])
            ranges["entity"] = np.unique(self._ranges("entity", listed[listed >= 0])).tolist()
        for name in KINDS[part].inputs:
            for i in ranges.get(PartName(name).table, [index]):
                yield bytes.fromhex(self._keys[name][i])

    @property
    def _contents(self) -> dict[Source, Callable[[PartName], Contents]]:
        """For each source, the function of (part, rows) -> bytes that stand for what is read of each row."""
        rows = self._rows
        return {
            "release": self._release,
            "name": lambda part: _rows_of(rows.name_content),
            "sentence": lambda part: _rows_of(rows.text_content["mention"]),
            "texts": lambda part: _rows_of(rows.text_content[part.table]),
            "sentences": self._sentence,
            "places": self._place,
            "picture": lambda part: _rows_of(rows.picture_content[part.table]),
            "faces": self._faces,
            "lists": lambda part: lambda begin, end: map(self._pair, range(begin, end)),
        }

    @property
    def _origins(self) -> dict[Source, Callable[[PartName], Contents]]:
        """Where what is encoded once for many rows is encoded, in the order in which this stands in keys."""
        return {
            "picture": lambda part: partial(self._picture_origins, part),
            "name": lambda part: partial(self._name_origins, part),
            "texts": lambda part: partial(self._text_origins, part),
        }

    def _release(self, part: PartName) -> Contents:
        columns = list(self._rows.ids[part].values())
        status = self._rows.picture_status[part.table]
        texts, pictures = (_rows_of(c[part.table]) for c in (self._rows.text_content, self._rows.picture_content))

        def contents(begin: int, end: int) -> Iterator[bytes]:
            told = [map(str, column[begin:end].tolist()) for column in columns]
            named = map(content_hash, *told, status[begin:end].tolist())
            return map(b"".join, zip(named, texts(begin, end), pictures(begin, end), strict=True))

        return contents

    def _sentence(self, part: PartName) -> Contents:
        """Return the function from rows to the hash of the text of each, b"" but for the first row of it."""
        texts, of = self._rows.read[home(part.table)], self._sentences[part.table].of

        def contents(begin: int, end: int) -> Iterator[bytes]:
            first = np.diff(of[begin:end], prepend=of[begin - 1] if begin else -1) != 0
            return (
                content_hash(text) if new else b"" for text, new in zip(texts[begin:end], first.tolist(), strict=True)
            )

        return contents

    def _place(self, part: PartName) -> Contents:
        first = self._sentences[KINDS[part].into].first
        texts = _rows_of(self._rows.name_content if part.table == "entity" else self._rows.text_content["mention"])
        return lambda begin, end: map(operator.add, texts(begin, end), map(content_hash, first[begin:end].tolist()))

    def _faces(self, part: PartName) -> Contents:
        faces = self._rows.faces
        if faces is None:
            return lambda begin, end: repeat(b"", end - begin)
        return lambda begin, end: map(_faces_content, faces[begin:end])

    def _pair(self, row: int) -> bytes:
        texts, pictures = self._rows.text_content, self._rows.picture_content
        entities, gold = self._lists.candidates[row], int(self._lists.gold[row])
        listed = entities[entities >= 0]
        there = np.concatenate([texts["entity"][listed], pictures["entity"][listed]], 1).tobytes()
        own = texts["mention"][row].tobytes() + pictures["mention"][row].tobytes()
        scores = self._lists.lexical[row].tobytes() + self._lists.lexical_gold[row].tobytes()
        return content_hash(gold, *entities.tolist()) + scores + own + there

    def _name_origins(self, part: PartName, begin: int, end: int) -> Iterable[bytes]:
        return self._origins_of(part, np.arange(begin, end), self._owners.entity_texts(begin, end))

    def _text_origins(self, part: PartName, begin: int, end: int) -> Iterable[bytes]:
        """Return where the texts of each row are encoded, behind the name of the column where it is another one."""
        found: list[Iterable[bytes]] = []
        for column in self._owners.columns[part.table]:
            owning = self._owners.texts(part.table, column, begin, end)
            found.append([b"" if name == column else name.encode() for name in owning.columns])
            found.append(self._origins_of(part, np.arange(begin, end), owning))
        return map(b"".join, zip(*found, strict=True))

    def _picture_origins(self, part: PartName, begin: int, end: int) -> Iterable[bytes]:
        """Return where the picture of each row is encoded, b"" where there is none."""
        rows, owning = np.arange(begin, end), self._owners.pictures(part, begin, end)
        there = np.flatnonzero(owning.rows >= 0)
        found = [b""] * (end - begin)
        some = Owning(owning.of_entity[there], owning.rows[there], [])
        for place, origin in zip(there.tolist(), self._origins_of(part, rows[there], some), strict=True):
            found[place] = origin
        own = (owning.of_entity == (part.table == "entity")) & (owning.rows == rows)
        for place in np.flatnonzero(own & ~self._owners.own_pictures(part.table, begin, end)).tolist():
            found[place] = OWN_OF_ENTITY  # encoded in other batches than pictures that no entity has
        return found

    def _origins_of(self, part: PartName, rows: np.ndarray, owning: Owning) -> list[bytes]:
        """Return 32 bytes for each row (n,) of one range that say in which shard its vector is computed.

        OWN if it is encoded for this row, zeros if it is copied within its range, else the key of the other range.
        """
        of_entity, owners = owning.of_entity, owning.rows
        mine = of_entity == (part.table == "entity")
        indices = np.where(of_entity, self._ranges("entity", owners), self._ranges("mention", owners))
        here = mine & (indices == self._ranges(part.table, rows))
        codes = np.where(here, -1, 2 * indices + of_entity)
        codes[here & (owners == rows)] = -2
        known = {-1: bytes(32), -2: OWN}
        for code in np.unique(codes[codes >= 0]).tolist():
            index, is_entity = divmod(code, 2)
            known[code] = bytes.fromhex(self._keys[f"{'entity' if is_entity else 'mention'}.{part.kind}"][index])
        return [known[code] for code in codes.tolist()]

    def _ranges(self, table: str, rows: np.ndarray) -> np.ndarray:
        """Return the indices of the ranges that rows lie in."""
        return np.searchsorted(self._starts[table], rows, "right") - 1


def _rows_of(hashes: np.ndarray) -> Contents:
    """Return the function from rows to their hashes, of hashes (n, 32)."""
    return lambda begin, end: hashes[begin:end].view("V32").ravel().tolist()
