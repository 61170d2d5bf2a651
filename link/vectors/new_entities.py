"""Entities that a cache does not have: read from a file, and encoded as those of the cache were."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cache.names import ColumnName
from cache.reader import Reader
from cache.reader.row_index import RowIndex
from common.errors import ConfigError
from common.output import say
from common.paths import is_file
from common.records import Entity
from extract.datasets import jsonl
from extract.planning.rows import entity_text
from extract.reading.string_columns import stored
from link.vectors.encoding import Encoding
from link.vectors.grown_reader import GrownReader

IDS = ("entity.ids.id", "entity.ids.name")
AT_ONCE = 1024  # entities that are encoded together


def read(path: Path | None, reader: Reader) -> list[Entity]:
    """Return the entities of a file as entities.jsonl has them, none without a file.

    Raises ConfigError for a file that is not there, and for an id that the cache has; DatasetError, naming the line,
    for what is no entity.
    """
    if path is None:
        return []
    if not is_file(path):
        raise ConfigError(f"--entities {path}: there is no such file. Expected JSON lines, as entities.jsonl has them")
    found, known = list(jsonl.read_entities(path)), RowIndex(reader.strings(IDS[0]))
    if not found:
        raise ConfigError(f"--entities {path} is empty. Expected JSON lines, as entities.jsonl has them")
    if double := [entity.id for entity in found if known.find(stored(entity.id).decode()) is not None]:
        raise ConfigError(
            f"--entities {path}: {len(double):,} of its {len(found):,} entities are in {reader.path} already, first "
            f"{double[0]!r:.60}. Leave them out, or give others ids of their own"
        )
    return found


def grown(reader: Reader, entities: Sequence[Entity], columns: Sequence[str], encoding: Encoding) -> Reader:
    """Return the reader with the columns of new entities behind those of its own."""
    names = [*IDS, *(name for name in columns if ColumnName(name).table == "entity")]
    described = "entity.joint.description" in names
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    unusable = 0
    for begin in range(0, len(entities), AT_ONCE):
        some = entities[begin : begin + AT_ONCE]
        if described:  # one without a description has the vector of its other text there, as in an extraction
            some = [replace(entity, description=entity.description or entity_text(entity)) for entity in some]
        drafted = encoding.entities(some)
        for name in parts:
            parts[name].append(drafted.column(name))
        unusable += sum(status not in ("ok", "none") for status in drafted.pictures("entity"))
    if unusable:
        say(f"warning: {unusable:,} pictures of new entities cannot be used: they count as none")
    return GrownReader(reader, parts, len(entities))
