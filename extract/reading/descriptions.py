"""`--descriptions FILE`: a second, longer text for entities, from a file beside the release (DWE+ reads Wikipedia's).

    .jsonl      {"entity": "Q90", "text": "Paris is the capital ..."}; also what `melcache describe` writes
    .json       {"Q90": "Paris is ...", ...}: the form of qid2abs.json, qid2brief.json and DWE's brief.json
    .tsv        Q90<TAB>Paris is ...; or Paris@@@@Paris is ..., WikiDiverse's wikipedia_entity2desc_filtered.tsv

Any of them may be packed as .gz. An entity is meant by its id, else by its name: as it is written, else with `_`, `-`
and blanks alike. A .json is held in memory as a whole; of the others, however long, only what is needed.
"""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from common.errors import DatasetError
from common.paths import is_file
from common.records import Dataset, Entity
from extract.reading import packed, readers

FIELDS = ("entity", "text", "name", "title", "revision", "missing")  # of a line; those behind `text` are describe's
ORIGIN = ("licence", "source")  # of describe's first line
UNSTATED = "descriptions: license not stated by their file (Wikipedia's text is CC BY-SA 4.0)"
SEVERAL = -1  # stands for a row where several entities have a name
Given = tuple[bytes, str | bytes]  # entity, text


def add(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset with the descriptions of a file, what became of them counted, and their license noted.

    A description replaces the release's own. Of several for one entity the best match is taken (id, name, name
    but for blanks), of equal ones the first. Raises DatasetError, naming file and line, for what is in none of the
    formats above, and for a file in which no entity is found.
    """
    origin: dict[str, str] = {}
    counts: Counter[str] = Counter()
    texts, example = _match(_Index(dataset.entities), _records(path, origin, counts), counts)
    if not texts:
        entity = dataset.entities[0] if dataset.entities else Entity("", "")
        raise DatasetError(
            f"{path} describes no entity of {dataset.name}: its first of {counts['descriptions given']:,} is "
            f"{example!r}, the release's {entity.id!r} ({entity.name!r}). Is it the file of another release?"
        )
    entities = [
        replace(entity, description=texts[row]) if row in texts else entity
        for row, entity in enumerate(dataset.entities)
    ]
    counts["descriptions used"] = len(texts)
    counts["descriptions with damaged characters"] = sum("\ufffd" in text for text in texts.values())
    counts["entities without a description"] = sum(not entity.description for entity in entities)
    noted = f"descriptions: {origin['licence']}, {origin['source']}" if origin else UNSTATED
    found = {what: count for what, count in counts.items() if count}
    return replace(dataset, entities=entities, counts=dataset.counts | found, licence=f"{dataset.licence}; {noted}")


def _match(index: "_Index", records: Iterable[Given], counts: Counter[str]) -> tuple[dict[int, str], str]:
    """Return the text of each row that has one, and the first entity that the file names; count the rest."""
    best: dict[int, tuple[int, str]] = {}
    example: bytes | None = None
    for name, text in records:
        example = name if example is None else example
        counts["descriptions given"] += 1
        if not text.strip():
            counts["descriptions empty"] += 1
            continue
        row, rank = index.find(name)
        if row is None:
            counts["descriptions for no entity"] += 1
        elif row == SEVERAL:
            counts["descriptions for a name of several entities"] += 1
        else:
            if row in best:
                counts["descriptions beside a better or earlier one"] += 1
            if row not in best or rank < best[row][0]:
                best[row] = rank, text if isinstance(text, str) else text.decode("utf-8", "replace")
    return {row: text.strip() for row, (_, text) in best.items()}, (example or b"").decode("utf-8", "replace")


class _Index:
    """The rows of entities by id, by name, and by what their name is but for blanks."""

    def __init__(self, entities: list[Entity]) -> None:
        self._maps: tuple[dict[bytes, int], ...] = ({}, {}, {})
        ids, names, titles = self._maps
        for row, entity in enumerate(entities):
            id, name = (text.encode("utf-8", "replace") for text in (entity.id, entity.name))
            ids[id] = row
            for rows, key in ((names, name), (titles, readers.clean_title(name))):
                rows[key] = row if rows.setdefault(key, row) == row else SEVERAL

    def find(self, name: bytes) -> tuple[int | None, int]:
        """Return the row that a name means, SEVERAL or None, and how it was found, 0 being best."""
        ids, names, titles = self._maps
        if (row := ids.get(name)) is not None:
            return row, 0
        if (row := names.get(name)) is not None:
            return row, 1
        return titles.get(readers.clean_title(name)), 2


def _records(path: Path, origin: dict[str, str], counts: Counter[str]) -> Iterator[Given]:
    """Yield entity and text of each record; note in `origin` what the file says of itself."""
    if not is_file(path):
        raise DatasetError(f"--descriptions {path}: no such file. Make one with: melcache describe --help")
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind == ".jsonl":
        return _lines(path, origin)
    if kind == ".tsv":
        return _table(path, counts)
    if kind == ".json":
        return _mapping(path)
    raise DatasetError(f"--descriptions {path}: expected a file named .jsonl, .json or .tsv, or one of these as .gz")


def _lines(path: Path, origin: dict[str, str]) -> Iterator[Given]:
    for number, (where, record) in enumerate(readers.read_jsonl(path)):
        if number == 0 and record.keys() == set(ORIGIN):
            origin.update({field: readers.expect(record[field], str, field, where) for field in ORIGIN})
            continue
        if unknown := [field for field in record if field not in FIELDS]:
            raise DatasetError(f"{where}: unknown field {unknown[0]!r}, expected: {', '.join(FIELDS)}")
        text = record.get("text", None if "missing" not in record else "")
        name = readers.expect(record.get("entity"), str, "entity", where)
        yield name.encode("utf-8", "replace"), readers.expect(text, str, "text", where)


def _mapping(path: Path) -> Iterator[Given]:
    for name, text in readers.read_json(path, dict).items():
        where = f"the text of {name!r}"
        yield name.encode("utf-8", "replace"), readers.expect("" if text is None else text, str, where, str(path))


def _table(path: Path, counts: Counter[str]) -> Iterator[Given]:
    """Yield the two fields of each line.  WikiDiverse's table holds lines that are no record: they are counted."""
    separator = None
    for number, line in enumerate(packed.lines(path), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        if separator is None:
            separator = b"@@@@" if b"@@@@" in line.partition(b"\t")[0] else b"\t"
        name, found, text = line.partition(separator)
        if found:
            yield name.strip(), text
        elif separator == b"@@@@":
            counts["description lines without @@@@"] += 1
        else:
            raise DatasetError(
                f"{path} line {number}: expected entity<TAB>text (or name@@@@text from the first line on), "
                f"found {line[:60].decode('utf-8', 'replace')!r}"
            )
