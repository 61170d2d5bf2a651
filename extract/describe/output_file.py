"""The file that `melcache describe` grows: a first line about its origin, then one line an entity."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Self

from cache.store import lacking
from common.errors import DatasetError
from common.output import say
from common.paths import is_special
from common.records import Entity
from extract.reading import readers
from extract.reading.descriptions import FIELDS, ORIGIN

Record = dict[str, Any]


class OutputFile:
    """One such file, read and then appended to by this process alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, str] = {}  # of entities: by which name they were asked for, "" = by id
        self._origin: Record = {}
        self._texts = 0

    def __enter__(self) -> Self:
        self._file = _locked(self._path)
        try:
            self._repair()
            self._read()
        except DatasetError:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def hold(self, entity: Entity) -> bool:
        """Whether an entity has a line.  Raises DatasetError if it has, but under another name."""
        name = self._names.get(entity.id)
        if name and name != entity.name:
            raise DatasetError(
                f"{self._path} holds {entity.id!r} as {name!r}, this release calls it {entity.name!r}. "
                "Is it the file of another release? Choose another --out"
            )
        return name is not None

    def begin(self, origin: Record) -> None:
        """Write the first line of a new file.  Raises DatasetError for a file from another source."""
        if not self._origin:
            self._origin = origin
            self._write([origin])
        elif self._origin["source"] != origin["source"]:
            raise DatasetError(
                f"{self._path} was fetched from {self._origin['source']}, not {origin['source']}. Choose another --out"
            )

    def append(self, records: Iterable[Record]) -> None:
        """Write records and wait until they are on the disk."""
        records = list(records)
        self._note(records)
        self._write(records)

    def summary(self) -> str:
        """Return what the file holds, and under which license."""
        origin = f" from {self._origin['source']}, license: {self._origin['licence']}" if self._origin else ""
        return f"{self._path} holds {self._texts:,} texts{origin}"

    def _repair(self) -> None:
        """Cut off a line that a kill left half written."""
        self._file.seek(0)
        whole = sum(len(line) for line in self._file if line.endswith(b"\n"))
        if whole != self._file.seek(0, os.SEEK_END):
            say(f"{self._path}: removed an incomplete last line")
            self._file.truncate(whole)

    def _read(self) -> None:
        for number, (where, record) in enumerate(readers.read_jsonl(self._path)):
            if number == 0:
                if record.keys() != set(ORIGIN):
                    raise DatasetError(
                        f"{where}: expected {' and '.join(ORIGIN)}, the first line of a file that `describe` wrote. "
                        "Choose another --out"
                    )
                self._origin = record
            elif "entity" not in record or not record.keys() <= set(FIELDS):
                raise DatasetError(f"{where}: expected a record with the fields {', '.join(FIELDS)}")
            else:
                self._note([record])

    def _note(self, records: Iterable[Record]) -> None:
        for record in records:
            self._names[record["entity"]] = record.get("name", "")
            self._texts += "text" in record

    def _write(self, lines: Iterable[Record]) -> None:
        try:
            self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8"))
            self._file.flush()
            lacking.sync(self._file.fileno())
        except OSError as error:
            raise DatasetError(
                f"{self._path} cannot be written: {error.strerror}. Make room and run the same command to continue"
            ) from None


def _locked(path: Path) -> BinaryIO:
    if is_special(path):
        raise DatasetError(f"{path} cannot be written: not a regular file. Choose another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror}. Choose another --out") from None
    if not lacking.lock(file.fileno(), path):
        file.close()
        raise DatasetError(f"{path} is being written by another process. Wait, or choose another --out")
    return file
