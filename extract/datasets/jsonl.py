"""Your own data as records: two files of JSON lines, and the pictures that they name.

    data/jsonl/
        mentions.jsonl      {"id": "m1", "text": "Paris at night", "start": 0, "end": 5, "image": "images/m1.jpg",
                             "gold": "Q90", "candidates": ["Q90", "Q167646"], "split": "train"}
        entities.jsonl      {"id": "Q90", "name": "Paris", "text": "capital of France", "image": "images/Q90.jpg"}
        images/             anywhere under the folder

A mention needs `id`, `text`, and `start` and `end` (character offsets, half open) or `mention` (its surface, which
is then searched for; with start and end -1 it does not stand in the text). Optional: `image` (a path relative to
the folder), `gold` (an entity id; null, "" or "nil" for nil; without it the mention is not labeled and counts in no
accuracy), `candidates`, `split` (train, valid, also dev or val, test, or a list of them), `caption` (an id that the
mentions of one text share), `type`. An entity needs `id`; optional: `name` (else its id), `text`, `image`,
`description` (a second, longer text). Either file may be packed as .gz. An entity that only gold or candidates name
has no text: probably a typo, which is said, and with --strict an error.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path, PurePosixPath

from common.errors import DatasetError
from common.records import SPLITS, Dataset, Entity, Image, Mention
from extract.reading import picture_folders, readers
from extract.reading.entity_columns import Entities, field

SOURCE = "your own data"
LICENCE = "unknown"
MENTION_FIELDS = (
    "id", "caption", "text", "mention", "start", "end", "image", "gold", "candidates", "split", "type",
)  # fmt: skip
ENTITY_FIELDS = ("id", "name", "text", "image", "description")
SHOWN = 5  # lines with a doubt


def load(data: Path) -> Dataset:
    """Return the records of `data`/mentions.jsonl and entities.jsonl.

    Raises DatasetError, naming file and line, for what is missing, empty, unknown, of a wrong type, outside the
    text, named twice, or a picture outside the folder.
    """
    files = {name: readers.find(data, name) for name in ("mentions.jsonl", "entities.jsonl")}
    if None in files.values():
        raise readers.missing("jsonl", data, files, SOURCE, LICENCE, __doc__)
    counts: Counter = Counter()
    places, mentions = [], []
    for where, mention in read_mentions(files["mentions.jsonl"], counts):
        places.append(where)
        mentions.append(mention)
    entities = Entities(read_entities(files["entities.jsonl"]))
    named = {id for mention in mentions for id in (mention.gold, *(mention.candidates or ()))}
    doubts = _doubts(places, mentions, named.intersection(field(entities, "id")))
    return replace(readers.finish("jsonl", mentions, entities, counts, {}, LICENCE, SOURCE), doubts=doubts)


def read_mentions(path: Path, counts: Counter) -> Iterator[tuple[str, Mention]]:
    """Yield where each mention of a file stands, and the mention; its picture is beside the file.  Raises as `load`."""
    tree = picture_folders.Tree(path.parent)
    for where, record in _records(path, MENTION_FIELDS):
        yield where, _mention(record, where, tree, counts)


def read_entities(path: Path) -> Iterator[Entity]:
    """Yield the entities of a file, whose pictures are beside it.  Raises as `load`."""
    tree = picture_folders.Tree(path.parent)
    for where, record in _records(path, ENTITY_FIELDS):
        yield _entity(record, where, tree)


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


def _records(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Yield the records of a file, whose ids must differ."""
    seen = readers.Seen()
    for where, record in readers.read_jsonl(path):
        if unknown := [field for field in record if field not in fields]:
            raise DatasetError(f"{where}: unknown field {unknown[0]!r}, expected: {', '.join(fields)}")
        id = readers.expect(record.get("id"), str, "id", where)
        if not id.strip():
            raise DatasetError(f"{where}: id {id!r} is empty, expected a name of its own")
        seen.add(id)
        yield where, record
    if twice := seen.twice((record["id"], where) for where, record in readers.read_jsonl(path)):
        id, first, where = twice
        raise DatasetError(f"{where}: id {id!r} is already used in {first}")


def _mention(record: dict, where: str, tree: picture_folders.Tree, counts: Counter) -> Mention:
    sentence = readers.expect(record.get("text"), str, "text", where)
    surface, start, end = _span(record, sentence, where, counts)
    candidates, split = record.get("candidates"), record.get("split")
    split = [] if split in (None, "") else [split] if isinstance(split, str) else split
    names = readers.strings(split, "split", where)
    return Mention(
        id=record["id"],
        caption=_text(record, "caption", where) or record["id"],
        sentence=sentence,
        surface=surface,
        start=start,
        end=end,
        gold=readers.gold_of(record.get("gold"), "gold", where),
        splits=reduce(or_, (readers.mask_of(name, where) for name in names), 0),
        image=_image(record.get("image"), where, tree),
        candidates=None if candidates is None else _candidates(candidates, where, counts),
        type=_text(record, "type", where),
        labeled="gold" in record,
    )


def _candidates(listed: object, where: str, counts: Counter) -> tuple[str, ...]:
    """Return the ids of a list; one that means no entity is left out and counted, an empty one refused."""
    given = readers.strings(listed, "candidates", where)
    if not all(map(str.strip, given)):
        raise DatasetError(f"{where}: candidates hold an empty id; expected ids of entities")
    return readers.candidates_of(given, counts)


def _doubts(places: Sequence[str], mentions: Sequence[Mention], known: set[str]) -> list[str]:
    """Return where golds and candidates are named that no line of entities.jsonl has: the first few, and how many."""
    found: list[str] = []
    counts: Counter = Counter()
    for where, mention in zip(places, mentions, strict=True):
        named = (("gold", mention.gold), *(("candidate", id) for id in mention.candidates or ()))
        for what, id in ((what, id) for what, id in named if id is not None and id not in known):
            counts[what] += 1
            if counts.total() <= SHOWN:
                found.append(f"{where}: {what} {id!r:.80} is not in entities.jsonl")
    if found:
        found.append(
            f"{counts['gold']:,} golds and {counts['candidate']:,} candidates are not in entities.jsonl: typing "
            "errors? Without --strict they become entities without a text"
        )
    return found


def _entity(record: dict, where: str, tree: picture_folders.Tree) -> Entity:
    if readers.gold_of(record["id"], "id", where) is None:
        raise DatasetError(
            f"{where}: id {record['id']!r} means that a mention has no entity (nil). Give the entity another"
        )
    return Entity(
        id=record["id"],
        name=_text(record, "name", where) or record["id"],
        text=_text(record, "text", where),
        image=_image(record.get("image"), where, tree),
        description=_text(record, "description", where),
    )


def _text(record: dict, field: str, where: str) -> str:
    value = record.get(field)
    return "" if value is None else readers.expect(value, str, field, where)


def _span(record: dict, sentence: str, where: str, counts: Counter) -> tuple[str, int, int]:
    """Return surface, start and end of a mention, which gives its offsets, its surface, or both."""
    start, end, surface = record.get("start"), record.get("end"), _text(record, "mention", where)
    if start is None and end is None:
        if not surface.strip():
            raise DatasetError(f"{where}: expected start and end, or mention, found neither")
        return surface, *readers.locate(sentence, surface, counts)
    if (start, end) == (-1, -1) and surface:
        counts["spans not found"] += 1
        return surface, -1, -1
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(sentence):
        raise DatasetError(f"{where}: start {start!r}, end {end!r} are not within a text of {len(sentence)} characters")
    if surface and sentence[start:end] != surface:
        raise DatasetError(f"{where}: text[{start}:{end}] is {sentence[start:end]!r}, but mention is {surface!r}")
    return sentence[start:end], start, end


def _image(value: object, where: str, tree: picture_folders.Tree) -> Image | None:
    """Return the picture at a relative path.  One outside the folder could be any file of this machine."""
    if value is None:
        return None
    path = PurePosixPath(readers.expect(value, str, "image", where))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in str(path):
        raise DatasetError(f"{where}: image must be a path relative to {tree.folder} without '..', found {value!r}")
    return Image(tree.path(path))


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
    return {
        field: value
        for field, value in line.items()
        if value is not None or (field == "gold" and mention.labeled)  # null is nil
    }


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
