"""Records of a release as arrays and back: texts are one run of UTF-8 with the end of each, pictures a table of files.

What is read is checked as if a stranger had written it.
"""

import itertools
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.fingerprint import NO_CONTENT
from cache.kinds import IMAGE_STATUS
from cache.schema import UNLABELED
from common.errors import CacheError
from common.records import SPLITS, Entity, Image, Mention
from extract.planning.rows import Picture, Rows, gold_rows, named_by, rows_of
from extract.reading import entity_columns
from extract.reading.entity_columns import Entities, Strings, field

Arrays = dict[str, np.ndarray]
ENTITY = ("id", "name", "text", "description")
MENTION = ("id", "caption", "sentence", "surface", "type")


class Table:
    """Arrays that were read, each asked for with the type and the axes that it must have."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def get(self, name: str, dtype: Any, *shape: int | None) -> np.ndarray:
        """Return an array of this type and shape; None stands for any length.  Raises CacheError."""
        array = self._arrays.get(name)
        if array is None or array.dtype != dtype or not _fits(array.shape, shape):
            found = "none" if array is None else f"{array.dtype} {array.shape}"
            raise CacheError(f"array {name}: expected {np.dtype(dtype)} {shape}, found {found}")
        return array

    def between(self, name: str, dtype: Any, shape: Sequence[int | None], least: int, most: int) -> np.ndarray:
        """Return an array of whole numbers from `least` to `most`.  Raises CacheError."""
        array = self.get(name, dtype, *shape)
        if array.size and not (least <= array.min() and array.max() <= most):
            raise CacheError(f"array {name} holds {array.min()} to {array.max()}, expected {least} to {most}")
        return array

    def texts(self, name: str, count: int | None = None) -> Strings:
        """Return texts that `texts` has written, `count` of them where that is known.  Raises CacheError."""
        data, ends = self.get(f"{name}.utf8", np.uint8, None), self.get(f"{name}.ends", np.int64, count)
        edges = np.concatenate([[0], ends])
        if edges[-1] != len(data) or (np.diff(edges) < 0).any():
            raise CacheError(f"array {name}.ends does not cut {len(data):,} bytes into texts")
        found = Strings(bytearray(data), edges)
        try:
            for _ in found:
                pass
            return found
        except UnicodeDecodeError as error:
            raise CacheError(f"array {name}.utf8 is not UTF-8") from error


def texts(name: str, values: Iterable[str]) -> Arrays:
    """Return texts as arrays: UTF-8 (bytes,), and where each ends in it (n,)."""
    data, lengths = bytearray(), array("q")
    for value in values:
        encoded = value.encode("utf-8", "surrogatepass")
        data += encoded
        lengths.append(len(encoded))
    ends = np.cumsum(np.frombuffer(lengths, np.int64))
    return {f"{name}.utf8": np.frombuffer(data, np.uint8), f"{name}.ends": ends}


def of(rows: Rows, root: Path) -> Arrays:
    """Return the records of rows, and what is known of their pictures; paths below `root` are told from there."""
    named = itertools.chain(*map(entity_columns.pictures, (rows.entities, rows.mentions)))
    images = list(dict.fromkeys(image for image in named if image is not None))
    numbers: dict[Image | None, int] = {None: -1} | {image: number for number, image in enumerate(images)}
    pictures = [(NO_CONTENT, 0) if image.path is None else rows.pictures[image.path] for image in images]
    found = texts("image.path", [_told(image.path, root) for image in images])
    found |= texts("image.reason", [image.reason for image in images])
    found["image.content"] = np.frombuffer(b"".join(content for content, _ in pictures), np.uint8).reshape(-1, 32)
    found["image.status"] = np.array([status for _, status in pictures], np.uint8)
    for table, names in (("entity", ENTITY), ("mention", MENTION)):
        records: Sequence[Entity] | Sequence[Mention] = rows.records(table)
        for name in names:
            found |= texts(f"{table}.{name}", field(records, name))
        shown = (numbers[image] for image in entity_columns.pictures(records))
        found[f"{table}.image"] = np.fromiter(shown, np.int32, len(records))
    found |= texts("alias.id", rows.aliases) | texts("alias.names", map("\n".join, rows.aliases.values()))
    found["mention.gold"] = gold_rows(rows.mentions, rows_of(rows.entities, named_by(rows.mentions)))
    found["mention.place"] = np.array([(m.start, m.end) for m in rows.mentions], np.int64).reshape(-1, 2)
    found["mention.splits"] = np.array([m.splits for m in rows.mentions], np.uint8)
    return found


def records(table: Table, root: Path) -> tuple[Entities, list[Mention], dict[Path, Picture]]:
    """Return what `of` was given, mentions without lists and faces.  Raises CacheError."""
    images, pictures = _images(table, root)
    shown = table.between("entity.image", np.int32, [None], -1, len(images) - 1).tolist()
    columns = [table.texts(f"entity.{name}", len(shown)) for name in ENTITY]
    entities = Entities(
        Entity(name, called, text, images[image] if image >= 0 else None, description)
        for name, called, text, description, image in zip(*columns, shown, strict=True)
    )
    return entities, _mentions(table, entities, images), pictures


def aliases(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the aliases of entities, by id.  Raises CacheError."""
    ids = table.texts("alias.id")
    return {id: tuple(names.split("\n")) for id, names in zip(ids, table.texts("alias.names", len(ids)), strict=True)}


def _mentions(table: Table, entities: Sequence[Entity], images: Sequence[Image]) -> list[Mention]:
    count = len(table.get("mention.splits", np.uint8, None))
    columns = [table.texts(f"mention.{name}", count) for name in MENTION]
    shown = table.between("mention.image", np.int32, [count], -1, len(images) - 1).tolist()
    golds = table.between("mention.gold", np.int32, [count], UNLABELED, len(entities) - 1).tolist()
    splits = table.between("mention.splits", np.uint8, [count], 0, (1 << len(SPLITS)) - 1).tolist()
    places = table.between("mention.place", np.int64, [count, 2], -1, np.iinfo(np.int32).max).tolist()
    return [
        Mention(
            *(name, caption, sentence, surface, *place, entities[gold].id if gold >= 0 else None, mask),
            image=images[image] if image >= 0 else None,
            type=kind,
            labeled=gold != UNLABELED,
        )
        for name, caption, sentence, surface, kind, image, gold, mask, place in zip(
            *columns, shown, golds, splits, places, strict=True
        )
    ]


def _images(table: Table, root: Path) -> tuple[list[Image], dict[Path, Picture]]:
    paths = table.texts("image.path")
    reasons = table.texts("image.reason", len(paths))
    contents = table.get("image.content", np.uint8, len(paths), 32)
    statuses = table.between("image.status", np.uint8, [len(paths)], 0, len(IMAGE_STATUS) - 1).tolist()
    images = [Image(root / path if path else None, reason) for path, reason in zip(paths, reasons, strict=True)]
    known = zip(images, contents, statuses, strict=True)
    return images, {i.path: (content.tobytes(), status) for i, content, status in known if i.path is not None}


def _told(path: Path | None, root: Path) -> str:
    if path is None:
        return ""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _fits(found: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(b is None or a == b for a, b in zip(found, wanted, strict=True))
