"""Your own data as records: two files of JSON lines, and the pictures that they name.

    data/jsonl/
        mentions.jsonl      {"id": "m1", "text": "Paris at night", "start": 0, "end": 5, "image": "images/m1.jpg",
                             "gold": "Q90", "candidates": ["Q90", "Q167646"], "split": "train"}
        entities.jsonl      {"id": "Q90", "name": "Paris", "text": "capital of France", "image": "images/Q90.jpg"}
        images/             anywhere under the folder

A mention needs `id`, `text`, and `start` and `end` (character offsets, half open) or `mention` (its surface, which
is then searched for; with start and end -1 it does not stand in the text). Optional: `image` (a path relative to
the folder), `gold` (an entity id, null for nil), `candidates`, `split` (train, valid, test, or a list of them),
`caption` (an id that the mentions of one text share), `type`. An entity needs `id`; optional: `name` (else its
id), `text`, `image`, `description` (a second, longer text). Either file may be packed as .gz.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from common.errors import DatasetError
from common.records import SPLITS, Dataset, Entity, Image, Mention, split_mask
from extract.datasets import release

SOURCE = "your own data"
LICENCE = "unknown"
MENTION_FIELDS = (
    "id", "caption", "text", "mention", "start", "end", "image", "gold", "candidates", "split", "type",
)  # fmt: skip
ENTITY_FIELDS = ("id", "name", "text", "image", "description")


def load(data: Path) -> Dataset:
    """Return the records of `data`/mentions.jsonl and entities.jsonl.

    Raises DatasetError, naming file and line, for what is missing, unknown, of a wrong type, outside the
    text, named twice, or a picture outside the folder.
    """
    files = {name: release.find(data, name) for name in ("mentions.jsonl", "entities.jsonl")}
    if None in files.values():
        raise release.missing("jsonl", data, files, SOURCE, LICENCE, __doc__)
    counts: Counter = Counter()
    mentions = [_mention(record, where, data, counts) for where, record in _records(files["mentions.jsonl"])]
    entities = [_entity(record, where, data) for where, record in _records(files["entities.jsonl"])]
    return release.finish("jsonl", mentions, entities, counts, {}, LICENCE, SOURCE)


def write(data: Path, mentions: Iterable[Mention], entities: Iterable[Entity]) -> None:
    """Write the two files that `load` reads into the folder `data`.

    A picture without a path is written as none. Raises DatasetError for one outside `data`.
    """
    data.mkdir(parents=True, exist_ok=True)
    for name, lines in (
        ("mentions.jsonl", (_mention_line(mention, data) for mention in mentions)),
        ("entities.jsonl", (_entity_line(entity, data) for entity in entities)),
    ):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (data / name).write_text(text, encoding="utf-8", newline="\n")


def _records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the records of a file, whose ids must differ."""
    fields = MENTION_FIELDS if path.name.startswith("mentions") else ENTITY_FIELDS
    first: dict[str, str] = {}
    for where, record in release.read_jsonl(path):
        if unknown := [field for field in record if field not in fields]:
            raise DatasetError(f"{where}: unknown field {unknown[0]!r}, expected: {', '.join(fields)}")
        id = release.expect(record.get("id"), str, "id", where)
        if id in first:
            raise DatasetError(f"{where}: id {id!r} stands already in {first[id]}")
        first[id] = where
        yield where, record


def _mention(record: dict, where: str, data: Path, counts: Counter) -> Mention:
    sentence = release.expect(record.get("text"), str, "text", where)
    surface, start, end = _span(record, sentence, where, counts)
    gold, candidates, split = record.get("gold"), record.get("candidates"), record.get("split") or []
    for name in release.strings([split] if isinstance(split, str) else split, "split", where):
        if name not in SPLITS:
            raise DatasetError(f"{where}: unknown split {name!r}, expected one of: {', '.join(SPLITS)}")
    return Mention(
        id=record["id"],
        caption=_text(record, "caption", where) or record["id"],
        sentence=sentence,
        surface=surface,
        start=start,
        end=end,
        gold=None if gold is None else release.expect(gold, str, "gold", where),
        splits=split_mask(*([split] if isinstance(split, str) else split)),
        image=_image(record.get("image"), where, data),
        candidates=None if candidates is None else tuple(release.strings(candidates, "candidates", where)),
        type=_text(record, "type", where),
    )


def _entity(record: dict, where: str, data: Path) -> Entity:
    return Entity(
        id=record["id"],
        name=_text(record, "name", where) or record["id"],
        text=_text(record, "text", where),
        image=_image(record.get("image"), where, data),
        description=_text(record, "description", where),
    )


def _text(record: dict, field: str, where: str) -> str:
    value = record.get(field)
    return "" if value is None else release.expect(value, str, field, where)


def _span(record: dict, sentence: str, where: str, counts: Counter) -> tuple[str, int, int]:
    """Return surface, start and end of a mention, which gives its offsets, its surface, or both."""
    start, end, surface = record.get("start"), record.get("end"), _text(record, "mention", where)
    if start is None and end is None:
        if not surface:
            raise DatasetError(f"{where}: expected start and end, or mention, found neither")
        return surface, *release.locate(sentence, surface, counts)
    if (start, end) == (-1, -1) and surface:
        counts["spans not found"] += 1
        return surface, -1, -1
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(sentence):
        raise DatasetError(f"{where}: start {start!r}, end {end!r} lie not in a text of {len(sentence)} characters")
    if surface and sentence[start:end] != surface:
        raise DatasetError(f"{where}: text[{start}:{end}] is {sentence[start:end]!r}, but mention is {surface!r}")
    return sentence[start:end], start, end


def _image(value: object, where: str, data: Path) -> Image | None:
    """Return the picture at a relative path.  One outside the folder could be any file of this machine."""
    if value is None:
        return None
    path = PurePosixPath(release.expect(value, str, "image", where))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in str(path):
        raise DatasetError(f"{where}: image must be a path relative to {data} without '..', found {value!r}")
    return Image(data / path)


def _mention_line(mention: Mention, data: Path) -> dict:
    line = {
        "id": mention.id,
        "caption": mention.caption,
        "text": mention.sentence,
        "mention": mention.surface,
        "start": mention.start,
        "end": mention.end,
        "image": _relative(mention.image, data),
        "gold": mention.gold,
        "candidates": None if mention.candidates is None else list(mention.candidates),
        "split": [name for bit, name in enumerate(SPLITS) if mention.splits >> bit & 1],
        "type": mention.type or None,
    }
    return {field: value for field, value in line.items() if value is not None}


def _entity_line(entity: Entity, data: Path) -> dict:
    line = {
        "id": entity.id,
        "name": entity.name,
        "text": entity.text,
        "image": _relative(entity.image, data),
        "description": entity.description or None,
    }
    return {field: value for field, value in line.items() if value is not None}


def _relative(image: Image | None, data: Path) -> str | None:
    if image is None or image.path is None:
        return None
    if not image.path.is_relative_to(data):
        raise DatasetError(f"{image.path} lies outside {data}. Copy the picture into the folder first")
    return image.path.relative_to(data).as_posix()
