"""`--aliases FILE`: more names of entities, such as a knowledge base's redirects, from a file beside the release.

    .jsonl      {"entity": "Q90", "aliases": ["City of Light", "Paname"]}; or {"entity": "Q90", "alias": "Paname"}
    .tsv        Q90<TAB>Paname

Either may be packed as .gz. An entity is meant by its id, and may stand in several lines; the file may be of a larger
knowledge base than the release's. A file is read line by line, and only what is needed is held.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cache import fingerprint
from cache.reader.row_index import RowIndex
from common.errors import DatasetError
from common.paths import is_file
from common.records import Dataset
from extract.reading import packed, readers
from extract.reading.entity_columns import field

FIELDS = ({"entity", "alias"}, {"entity", "aliases"})


def add(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset with the aliases of a file, what became of them counted.

    Raises DatasetError, naming file and line, for what is in neither format or not UTF-8, and for a file in which no
    entity has an alias.
    """
    ids, names = field(dataset.entities, "id"), field(dataset.entities, "name")
    rows = RowIndex(ids)
    found, counts = read(path, lambda id: None if (row := rows.find(id)) is None else names[row])
    if not found:
        example = next(iter(ids), "")
        raise DatasetError(
            f"{path} names no entity of {dataset.name} by another name than its own: of {counts['aliases given']:,} "
            f"aliases {counts['aliases of no entity']:,} are of other ids. Expected ids such as {example!r}"
        )
    counts["entities with aliases"] = len(found)
    return replace(dataset, aliases=found, counts=dataset.counts | {w: count for w, count in counts.items() if count})


def read(path: Path, name_of: Callable[[str], str | None]) -> tuple[dict[str, tuple[str, ...]], Counter[str]]:
    """Return the aliases of those ids of which `name_of` knows the name, sorted, and counts of what was given.

    An alias that is empty, that repeats another of its entity or the entity's own name, counts as left out.
    """
    sets: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for id, text in _records(path):
        alias, name = " ".join(text.split()), name_of(id)
        counts["aliases given"] += 1
        if name is None:
            counts["aliases of no entity"] += 1
        elif not alias:
            counts["aliases empty"] += 1
        elif alias == name or alias in sets.get(id, ()):
            counts["aliases that repeat a name"] += 1
        else:
            sets.setdefault(id, set()).add(alias)
    return {id: tuple(sorted(aliases)) for id, aliases in sets.items()}, counts


def digest(entities: Mapping[str, tuple[str, ...]]) -> str:
    """Return the sha256 that stands for the aliases of entities, by id, in whatever order they are."""
    return fingerprint.digest([[id, *entities[id]] for id in sorted(entities)])


def _records(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each id and alias."""
    if not is_file(path):
        raise DatasetError(f"--aliases {path}: no such file")
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (".jsonl", ".tsv"):
        raise DatasetError(f"--aliases {path}: expected a file named .jsonl or .tsv, or one of these as .gz")
    yield from _lines(path) if kind == ".jsonl" else _table(path)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for where, record in readers.read_jsonl(path):
        if record.keys() not in FIELDS:
            fields = ", ".join(map(repr, record))
            raise DatasetError(f"{where}: expected the fields 'entity' and 'aliases', or 'alias', found {fields:.60}")
        id = readers.expect(record["entity"], str, "entity", where)
        if "alias" in record:
            yield id, readers.expect(record["alias"], str, "alias", where)
        else:
            for alias in readers.strings(record["aliases"], "aliases", where):
                yield id, alias


def _table(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(packed.lines(path), 1):
        where = f"{path} line {number}"
        text = readers.decode(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, where).rstrip("\r\n")
        if not text.strip():
            continue
        id, tab, alias = text.partition("\t")
        if not tab or "\t" in alias:
            raise DatasetError(f"{where}: expected entity<TAB>alias, found {text:.60}")
        yield id.strip(), alias
