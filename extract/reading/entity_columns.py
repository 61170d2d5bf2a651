"""Entities of a release as columns of bytes: 6,000,000 records of Python objects would take 2 GB."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np

from common.records import Entity, Image, Mention

FIELDS = ("id", "name", "text", "description", "image")
BLOCK = 1024  # texts that are decoded together
PATH = "\0"  # stands between the reason of a picture and its path; neither holds one


class Strings(Sequence[str]):
    """Texts in one buffer, in any order of reading; half surrogate pairs, as of odd file names, stay as they are."""

    def __init__(self, buffer: bytearray | None = None, edges: np.ndarray | None = None) -> None:
        self._buffer = bytearray() if buffer is None else buffer
        self._ends = np.zeros(BLOCK, np.int64) if edges is None else edges  # of each text, the first behind a 0
        self._count = 0 if edges is None else len(edges) - 1

    def append(self, text: str) -> None:
        """Add a text behind the others."""
        self._count += 1
        if self._count == len(self._ends):
            self._ends = np.concatenate([self._ends, np.zeros((len(self._ends) >> 1) + 1, np.int64)])
        self._buffer += text.encode("utf-8", "surrogatepass")
        self._ends[self._count] = len(self._buffer)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            start, stop, step = row.indices(self._count)
            return list(self._some(start, stop) if step == 1 else map(self.__getitem__, range(start, stop, step)))
        place = range(self._count)[row]
        return self._buffer[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(
            self._some(begin, min(begin + BLOCK, self._count)) for begin in range(0, self._count, BLOCK)
        )

    def _some(self, start: int, stop: int) -> Iterator[str]:
        begins, ends = self._ends[start:stop].tolist(), self._ends[start + 1 : stop + 1].tolist()
        return (self._buffer[a:b].decode("utf-8", "surrogatepass") for a, b in zip(begins, ends, strict=True))


class Told(Sequence[str]):
    """What a function tells of each of some, asked for whenever it is needed."""

    def __init__(self, some: Sequence[Any] | np.ndarray, tell: Callable[[Any], str]) -> None:
        self._some, self._tell = some, tell

    def __len__(self) -> int:
        return len(self._some)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return list(map(self._tell, self._some[row]))
        return self._tell(self._some[row])

    def __iter__(self) -> Iterator[str]:
        return map(self._tell, self._some)


class Entities(Sequence[Entity]):
    """Entities that are made of their columns whenever one is asked for.  A field that none has takes nothing."""

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self._columns: dict[str, Strings] = {}
        self._count = 0
        for entity in entities:
            self.append(entity)

    def append(self, entity: Entity) -> None:
        """Add an entity behind the others."""
        image = "" if entity.image is None else f"{entity.image.reason}{PATH}{entity.image.path or ''}"
        for field, text in zip(FIELDS, (entity.id, entity.name, entity.text, entity.description, image), strict=True):
            if text and field not in self._columns:
                self._columns[field] = Strings()
                for _ in range(self._count):
                    self._columns[field].append("")
            if field in self._columns:
                self._columns[field].append(text)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(mine == its for mine, its in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # as of a list

    @overload
    def __getitem__(self, row: int) -> Entity: ...
    @overload
    def __getitem__(self, row: slice) -> list[Entity]: ...
    def __getitem__(self, row: int | slice) -> Entity | list[Entity]:
        if isinstance(row, slice):
            return list(map(_entity, *(self.column(field)[row] for field in FIELDS)))
        return _entity(*(self.column(field)[row] for field in FIELDS))

    def __iter__(self) -> Iterator[Entity]:
        return map(_entity, *map(self.column, FIELDS))

    def column(self, field: str) -> Sequence[str]:
        """Return a field of all."""
        return self._columns.get(field) or Told(range(self._count), lambda row: "")


def field(records: Sequence[Entity] | Sequence[Mention], name: str) -> Sequence[str]:
    """Return a text of all records, without making them where they are columns."""
    return records.column(name) if isinstance(records, Entities) else [getattr(record, name) for record in records]


def pictures(records: Sequence[Entity] | Sequence[Mention]) -> Iterator[Image | None]:
    """Yield the picture of each record."""
    return map(_image, records.column("image")) if isinstance(records, Entities) else (r.image for r in records)


def _entity(id: str, name: str, text: str, description: str, image: str) -> Entity:
    return Entity(id, name, text, _image(image), description)


def _image(told: str) -> Image | None:
    reason, _, path = told.partition(PATH)
    return Image(Path(path) if path else None, reason) if told else None
