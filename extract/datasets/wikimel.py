"""The WikiMEL releases as records (Richpedia-MEL shares the layouts, see richpedia.py).

    data/wikimel/                               MELBench, with the side files of MEL-GHMFC
        Wikidata-MEL.json                       {id: {sentence, mentions: [..], entities: [..], answer: [qid..]}}
        splits.json                             {train, dev, test: [ids]}
        qid2ne.json, qid2abs.json               qid to name, qid to properties as text
        images/<id>.jpg

    data/wikimel/                               GHMFC and DRIN
        mentions/WIKIMEL_{train,valid,test}.json    {id or id-k: {sentence, mentions, entities, answer}}
          or nel_121.json and splits.json
        mentions/KVQAimgs/<id>.jpg
        entities/qid2abs.json, qid2brief.json   the second, a longer text, is optional
        entities/cleaned-images/<qid>.jpg
        candidates/qid2ne.json
        candidates/top100/candidates-answer.tsv     id<TAB>qid<TAB>qid...; or search_top100.json {mention: [qid..]}

Every .json may also be .json.gz or .zip; side files may lie in the folder itself, in input_data/, entities/,
candidates/, candidates/top100/ or mentions/; pictures may have another suffix.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import DatasetError
from common.records import Dataset, Entity, Image, Mention, split_mask
from extract.datasets import release

SIDE_FOLDERS = ("", "input_data/", "entities/", "candidates/", "candidates/top100/", "mentions/")
PICTURE_FOLDERS = ("images", "mentions/KVQAimgs", "KVQAimgs", "mention_image", "mention_images")
ENTITY_PICTURE_FOLDERS = ("entities/cleaned-images", "cleaned-images", "kb_image")


@dataclass(frozen=True)
class Layout:
    """What differs between the datasets of these layouts.

    `parts` are names of files that hold one split each (`{}` stands for the split's name), `wholes` of files
    that hold all splits; `optional` are splits that a release does without.
    """

    name: str
    parts: tuple[str, ...]
    wholes: tuple[str, ...]
    optional: tuple[str, ...]
    source: str
    licence: str
    doc: str | None


WIKIMEL = Layout(
    name="wikimel",
    parts=("mentions/WIKIMEL_{}.json", "WIKIMEL_{}.json"),
    wholes=("Wikidata-MEL.json", "nel_12n.json", "nel_121.json"),
    optional=(),
    source="https://github.com/seukgcode/MELBench and https://github.com/seukgcode/MEL-GHMFC",
    licence="text MIT, facts from Wikidata CC0, pictures Wikimedia Commons per file",
    doc=__doc__,
)


def load(data: Path) -> Dataset:
    """Return the records of WikiMEL.  Raises DatasetError if it is missing, incomplete or of wrong types."""
    return load_layout(data, WIKIMEL)


def load_layout(data: Path, layout: Layout) -> Dataset:
    """Return the records of a release in one of the layouts above.  Raises DatasetError."""
    names, texts = _side(data, "qid2ne.json"), _side(data, "qid2abs.json")
    counts: Counter = Counter()
    rows = _rows(data, layout, counts)
    if not rows or not (names or texts):
        looked = ("qid2ne.json", "qid2abs.json") if rows else (*layout.parts, *layout.wholes)
        raise release.missing(layout.name, data, looked, layout.source, layout.licence, layout.doc)
    pictures = release.pictures_in(data, *PICTURE_FOLDERS)
    lists = Lists(data)
    mentions: list[Mention] = []
    gold_names: dict[str, str] = {}
    for key, (row, splits, where) in rows.items():
        for id, surface, gold, name in _annotations(key, row, where):
            mentions.append(_mention(id, row, surface, gold, splits, where, pictures, lists, counts))
            if gold is not None:
                gold_names.setdefault(gold, name)
    entities = _entities(data, names, texts)
    return release.finish(layout.name, mentions, entities, counts, gold_names, layout.licence, layout.source)


def _side(data: Path, *files: str) -> Path | None:
    return release.find(data, *(folder + file for file in files for folder in SIDE_FOLDERS))


def _rows(data: Path, layout: Layout, counts: Counter) -> dict[str, tuple[dict, int, str]]:
    """Return the record, the split mask and the place of every key; {} if there is no file of them."""
    rows: dict[str, tuple[dict, int, str]] = {}
    for split, path in release.find_splits(data, layout.parts, layout.optional).items():
        for key, row in release.read_json(path, dict).items():
            where = f"{path} record {key!r}"
            other, splits, place = rows.get(key, (row, 0, where))
            if other != row:
                raise DatasetError(f"{where} differs from {place}, expected one record per id")
            rows[key] = (row, splits | split_mask(split), place)
    whole = None if rows else _side(data, *layout.wholes)
    if whole is None:
        return rows
    path = _side(data, "splits.json")
    if path is None:
        raise release.missing(layout.name, data, [f"splits.json, for {whole}"], layout.source, layout.licence, layout.doc)
    masks = release.read_split_ids(path)
    for key, row in release.read_json(whole, dict).items():
        rows[key] = (row, masks.get(key, masks.get(_caption(key), 0)), f"{whole} record {key!r}")
    counts["ids without text"] = len(masks.keys() - rows.keys() - {_caption(key) for key in rows})
    return rows


def _caption(key: str) -> str:
    return key.split("-")[0]


def _annotations(key: str, row: dict, where: str) -> Iterator[tuple[str, str, str | None, str]]:
    """Yield id, surface, gold and the gold entity's name of each mention of a record.

    A record has one mention, under the key id or id-k, or lists of them, which then get the ids id-k.
    """
    release.expect(row, dict, "a record", where)
    values = [row.get(field) for field in ("mentions", "answer", "entities")]
    if isinstance(values[0], list):
        surfaces, golds, names = (release.expect(value, list, "a field", where) for value in values)
        if not len(surfaces) == len(golds) == len(names):
            lengths = f"{len(surfaces)} mentions, {len(golds)} answer, {len(names)} entities"
            raise DatasetError(f"{where}: {lengths}, expected as many of each")
        ids = [key] if len(surfaces) == 1 else [f"{key}-{k}" for k in range(len(surfaces))]
        annotations = zip(ids, surfaces, golds, names, strict=True)
    else:
        annotations = iter([(key, *values)])
    for id, surface, gold, name in annotations:
        surface = release.expect(surface, str, "mentions", where)
        gold = release.expect(gold or "", str, "answer", where)
        gold = None if gold in ("", "nil") else gold
        yield id, surface, gold, release.expect(name or gold or "", str, "entities", where)
