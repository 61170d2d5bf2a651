"""Descriptions and pictures of entities: a cache has none, the release has."""

from collections.abc import Sequence
from pathlib import Path

from cache.reader.row_index import RowIndex
from common.errors import DatasetError
from common.output import say
from common.paths import DATA, is_folder
from common.records import RELEASES, Entity
from extract import datasets
from extract.datasets import jsonl
from extract.reading.entity_columns import field
from extract.reading.layouts import MARKS

ADVICE = "Descriptions and pictures of entities are not shown; --release FOLDER says where the release lies"


class ById:
    """Entities of a release, made of its columns when one is asked for."""

    def __init__(self, entities: Sequence[Entity] = ()) -> None:
        self._entities, self._rows = entities, RowIndex(field(entities, "id"))

    def get(self, id: str) -> Entity | None:
        """Return the entity of an id, None where there is none."""
        row = self._rows.find(id)
        return None if row is None else self._entities[row]


def found(name: str, source: str, asked: Path | None) -> ById:
    """Return the entities of a dataset's release by id; none, with a word about it, where the release is not there.

    `source` is what the cache says of where its release is from. Raises DatasetError for a folder that was `asked` for
    and holds none.
    """
    folder = asked or DATA / name
    adapter = name if name in RELEASES else "jsonl" if source == jsonl.SOURCE else None
    if asked is None and (adapter is None or not is_folder(folder)):
        say(f"no release of {name} in {folder}/. {ADVICE}")
        return ById()
    if adapter is None:
        adapter = next((known for known, marks in MARKS.items() if any(any(folder.glob(mark)) for mark in marks)), name)
    try:
        release = datasets.load(adapter, folder)
    except DatasetError as error:
        if asked is not None:
            raise
        say(f"{error.text}. {ADVICE}")
        return ById()
    return ById(release.entities)
