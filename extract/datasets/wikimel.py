"""The WikiMEL releases as records (Richpedia-MEL shares the layouts, see richpedia.py).

    data/wikimel/                               MELBench, with the side files of MEL-GHMFC; or a clone of either
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

    data/wikimel/                               KGMEL: see docs/guides/get-the-data.md
        WikiMEL.json, and splits.json or mapping/ids_split_mappings.json

Every .json may also be .json.gz or .zip; side files may lie in the folder itself, in input_data/, entities/,
candidates/, candidates/top100/ or mentions/; pictures may have another suffix. MELBench's clone has neither lists of
splits nor side files: without the first it is split here (no published number is on that split), without the second
its entities are the golds, and have no texts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import DatasetError
from common.paths import is_folder
from common.records import SPLITS, Dataset, Entity, Image, Mention, split_mask
from extract.datasets import kgmel
from extract.reading import packed, picture_folders, readers

SIDE_FOLDERS = ("", "input_data/", "entities/", "candidates/", "candidates/top100/", "mentions/")
PICTURE_FOLDERS = ("images", "mentions/KVQAimgs", "KVQAimgs", "mention_image", "mention_images")
ENTITY_PICTURE_FOLDERS = ("entities/cleaned-images", "cleaned-images", "kb_image")
SHARES = (0.7, 0.1, 0.2)  # of captions in the order of SPLITS: MELBench's, which does not say which are where
UNLISTED = "captions split by melcache"
UNSPLIT = "split by melcache (captions 70:10:20, by their ids): MELBench has no lists, so no published number fits"
Rows = dict[str, tuple[dict, int, str]]  # by key: record, split mask, place


@dataclass(frozen=True)
class Layout:
    """What differs between the datasets of these layouts.

    `parts` are names of files that hold one split each (`{}` stands for the split's name), `melbench` is MELBench's
    file, which may stand alone, and `wholes` are others that hold all splits. `folders` are where a clone has the
    release, `kgmel` is KGMEL's name of it; `optional` are splits that a release does without.
    """

    name: str
    parts: tuple[str, ...]
    melbench: str
    wholes: tuple[str, ...]
    folders: tuple[str, ...]
    kgmel: str
    optional: tuple[str, ...]
    source: str
    licence: str
    doc: str | None


WIKIMEL = Layout(
    name="wikimel",
    parts=("mentions/WIKIMEL_{}.json", "WIKIMEL_{}.json"),
    melbench="Wikidata-MEL.json",
    wholes=("nel_12n.json", "nel_121.json"),
    folders=("Wikidata-MEL", "datasets/WikiMEL"),
    kgmel="WikiMEL",
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
    for root in (data, *(data / folder for folder in layout.folders)):
        counts: Counter = Counter()
        if rows := _rows(root, layout, counts):
            return _load(root, layout, rows, counts)
    file, lists = kgmel.find(data, layout.kgmel), kgmel.find_lists(data)
    if file is None or lists is None:
        files = (*layout.parts, layout.melbench, *layout.wholes, f"{layout.kgmel}.json")
        raise _missing(data, layout, kgmel.SPLIT_LISTS if file else files)
    rows = kgmel.rows(file, lists, layout.kgmel, counts)
    return kgmel.load(data, layout.kgmel, rows, counts, layout.licence, layout.source)


def _load(data: Path, layout: Layout, rows: Rows, counts: Counter) -> Dataset:
    """Return the records of captions, their entities and candidates."""
    names, texts, alone = _side(data, "qid2ne.json"), _side(data, "qid2abs.json"), _side(data, layout.melbench)
    if not (names or texts or alone):
        raise _missing(data, layout, ("qid2ne.json", "qid2abs.json"))
    by_id, by_surface = _candidates(data, counts)
    pictures = picture_folders.pictures_in(data, *PICTURE_FOLDERS)
    mentions: list[Mention] = []
    gold_names: dict[str, str] = {}
    for key, (row, splits, where) in rows.items():
        sentence = readers.expect(row.get("sentence"), str, "sentence", where)
        image = _picture(_caption(key), row, where, pictures)
        for id, surface, gold, name in _annotations(key, row, where):
            span = readers.locate(sentence, surface, counts)
            given = by_id.get(id, ()) if by_id else by_surface.get(surface, ()) if by_surface else None
            labeled = "answer" in row
            mentions.append(
                Mention(id, _caption(key), sentence, surface, *span, gold, splits, image, given, labeled=labeled)
            )
            counts["mentions without candidates"] += given == ()
            gold_names.setdefault(gold or "", name)
    entities = _entities(data, names, texts)
    dataset = readers.finish(layout.name, mentions, entities, counts, gold_names, layout.licence, layout.source)
    return replace(dataset, warnings=[UNSPLIT]) if counts[UNLISTED] else dataset


def _missing(data: Path, layout: Layout, looked: tuple[str, ...]) -> DatasetError:
    return readers.missing(layout.name, data, looked, layout.source, layout.licence, layout.doc)


def _side(data: Path, *files: str) -> Path | None:
    return readers.find(data, *(folder + file for file in files for folder in SIDE_FOLDERS))


def _rows(data: Path, layout: Layout, counts: Counter) -> Rows:
    """Return the record, the split mask and the place of every key; {} if there is no file of them."""
    rows: Rows = {}
    for split, path in readers.find_splits(data, layout.parts, layout.optional).items():
        for key, row in readers.read_json(path, dict).items():
            where = f"{path} record {key!r}"
            other, splits, place = rows.get(key, (row, 0, where))
            if other != row:
                raise DatasetError(f"{where} differs from {place}, expected one record per id")
            rows[key] = (readers.expect(row, dict, "a record", where), splits | split_mask(split), place)
    whole = None if rows else _side(data, layout.melbench, *layout.wholes)
    if whole is None:
        return rows
    lists = _side(data, "splits.json")
    if lists is None and not whole.name.startswith(picture_folders.without_suffix(layout.melbench)):
        raise _missing(data, layout, (f"splits.json, to split {whole.name}",))
    masks = readers.read_split_ids(lists) if lists else {}
    for key, row in readers.read_json(whole, dict).items():
        where, caption = f"{whole} record {key!r}", _caption(key)
        mask = masks.get(key, masks.get(caption, 0)) if lists else _own_split(caption)
        rows[key] = (readers.expect(row, dict, "a record", where), mask, where)
        counts[UNLISTED] += lists is None
    counts["ids without text"] = len(masks.keys() - rows.keys() - {_caption(key) for key in rows})
    return rows


def _own_split(caption: str) -> int:
    """Return the mask of the split that a caption is in where the release has no lists: by its id alone."""
    place, border = int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], "big") / 2**64, 0.0
    for split, share in zip(SPLITS, SHARES, strict=True):
        border += share
        if place < border:
            return split_mask(split)
    return split_mask(SPLITS[-1])  # 0.7 + 0.1 + 0.2 is a little less than 1


def _caption(key: str) -> str:
    return key.split("-")[0]


def _annotations(key: str, row: dict, where: str) -> Iterator[tuple[str, str, str | None, str]]:
    """Yield id, surface, gold and the gold entity's name of each mention of a record.

    A record has one mention, under the key id or id-k, or lists of them, which then get the ids id-k.
    """
    fields = ("mentions", "answer", "entities")
    if isinstance(row.get("mentions"), list):
        none = [None] * len(row["mentions"])  # of a release without labels
        surfaces, golds, names = (readers.expect(row.get(field, none), list, "a field", where) for field in fields)
        if not len(surfaces) == len(golds) == len(names):
            lengths = f"{len(surfaces)} mentions, {len(golds)} answer, {len(names)} entities"
            raise DatasetError(f"{where}: {lengths}, expected as many of each")
        ids = [key] if len(surfaces) == 1 else [f"{key}-{k}" for k in range(len(surfaces))]
        annotations = zip(ids, surfaces, golds, names, strict=True)
    else:
        annotations = iter([(key, *map(row.get, fields))])
    for id, surface, gold, name in annotations:
        surface = readers.expect(surface, str, "mentions", where)
        gold = readers.gold_of(gold, "answer", where)
        yield id, surface, gold, readers.expect(name or gold or "", str, "entities", where)


def _picture(caption: str, row: dict, where: str, pictures: picture_folders.Pictures) -> Image:
    """Return a caption's picture: named after its id, except where the record lists files (Richpedia's later crawl)."""
    listed = readers.strings(row.get("img_list") or [], "img_list", where)
    return pictures.find(listed[0].rsplit("/", 1)[-1] if listed else f"{caption}.jpg")


def _candidates(data: Path, counts: Counter) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return the release's candidate lists by mention id and by surface; at least one of the two is empty.

    Those that mean no entity are left out and counted.
    """
    table, search = _side(data, "candidates-answer.tsv"), _side(data, "search_top100.json")
    lists: dict[str, tuple[str, ...]] = {}
    if table is not None:
        known: dict[str, str] = {}  # one string per qid: 2.6 million names of 18,880 entities
        for line in readers.decode(packed.whole(table), str(table)).splitlines():
            id, *given = line.split("\t")
            qids = readers.candidates_of(filter(str.strip, given), counts)
            lists[id] = tuple(dict.fromkeys(known.setdefault(qid, qid) for qid in qids))
        return lists, {}
    if search is not None:
        for surface, given in readers.read_json(search, dict).items():
            listed = filter(str.strip, readers.strings(given, f"candidates of {surface!r}", str(search)))
            lists[surface] = tuple(dict.fromkeys(readers.candidates_of(listed, counts)))
    return {}, lists


def _entities(data: Path, names: Path | None, texts: Path | None) -> list[Entity]:
    """Return the entities that have a text or a name, with the pictures and longer texts that the release has."""
    longer = _side(data, "qid2brief.json", "qid2abs_long.json")
    folders = [data / folder for folder in ENTITY_PICTURE_FOLDERS if is_folder(data / folder)]
    if not folders and is_folder(data / "entities"):  # a layout that has pictures: say that they are missing
        folders = [data / ENTITY_PICTURE_FOLDERS[0]]
    pictures = picture_folders.Pictures(folders[0]) if folders else None
    text, name, description = (_strings_of(path) for path in (texts, names, longer))
    return [
        Entity(
            id=qid,
            name=name.get(qid, qid),
            text=text.get(qid, ""),
            image=pictures.find(f"{qid}.jpg") if pictures else None,
            description=description.get(qid, ""),
        )
        for qid in dict.fromkeys([*text, *name])
        if qid.strip().lower() not in readers.NIL
    ]


def _strings_of(path: Path | None) -> dict[str, str]:
    """Return a file of {qid: text}, {} without one.  null is no text."""
    record = readers.read_json(path, dict) if path else {}
    return {key: readers.expect(value or "", str, f"the value of {key!r}", str(path)) for key, value in record.items()}
