"""The three datasets as KGMEL (SIGIR 2025) has them, read by wikimel.py, richpedia.py and wikidiverse.py.

    data/<dataset>/                             or a checkout of KGMEL: these stand in its data/dataset/
        WikiMEL.json                            [{id, sentence, imgPath, mention: [..], entity: [..], answer: [qid..]}]
          or RichpediaMEL.json, WikiDiverse.json
        mapping/ids_split_mappings.json         {WikiMEL: {train, val, test: [ids]}, ..}; or splits.json of one dataset
        mapping/ids_blank_image.json            optional: {WikiMEL: [ids], ..} whose picture is a blank file
        images/ (or image/WikiMEL/, mention_image/)

They have Wikidata's ids, and neither offsets nor texts of entities. Its table of names (data/KB/QID2Label.tsv) can be
given as --descriptions.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from common.errors import DatasetError
from common.records import Dataset, Entity, Image, Mention
from extract.reading import picture_folders, readers

SOURCE = "https://github.com/juyeonnn/KGMEL"
FOLDERS = ("", "dataset/", "data/dataset/")
SPLIT_LISTS = ("splits.json", "mapping/ids_split_mappings.json")
BLANKS = {"WikiDiverse": "mention_54.jpg"}  # KGMEL's blank file for the 238 captions whose picture it lacks
Row = tuple[str, int, Any, str]  # id, split mask, record, place


def find(data: Path, name: str) -> Path | None:
    """Return the file of dataset `name` (WikiMEL, RichpediaMEL, WikiDiverse), None if there is none."""
    return readers.find(data, *(f"{folder}{name}.json" for folder in FOLDERS))


def find_lists(data: Path) -> Path | None:
    """Return the file of split lists, None if there is none."""
    return readers.find(data, *(folder + file for file in SPLIT_LISTS for folder in FOLDERS))


def rows(file: Path, lists: Path, name: str, counts: Counter) -> list[Row]:
    """Return the records of a file that holds all splits, each with its id (else its place) and its split mask."""
    masks = readers.read_split_ids(lists, name)
    found: list[Row] = []
    for row, record in enumerate(readers.read_json(file, list)):
        id = str(record.get("id", row) if isinstance(record, dict) else row)
        found.append((id, masks.get(id, 0), record, f"{file} record {row}"))
    counts["ids without text"] = len(masks.keys() - {id for id, *_ in found})
    return found


def load(data: Path, name: str, records: list[Row], counts: Counter, licence: str, origin: str) -> Dataset:
    """Return the records of dataset `name`, which KGMEL has from `origin`."""
    places = (f"{folder}image/{name}" for folder in FOLDERS)
    pictures = picture_folders.pictures_in(data, "images", *places, "mention_image")
    blanks = _blanks(data, name)
    entities: dict[str, Entity] = {}
    mentions: list[Mention] = []
    for caption, splits, record, where in records:
        field = readers.expect(record, dict, "a caption", where).get
        sentence = readers.expect(field("sentence"), str, "sentence", where)
        path = readers.expect(field("imgPath") or "", str, "imgPath", where).rsplit("/", 1)[-1]
        blank = caption in blanks or path == BLANKS.get(name)
        image = Image(None, "blank") if blank else pictures.find(path) if path else None
        counts["captions with the blank picture"] += blank
        surfaces, names = (readers.strings(field(key), key, where) for key in ("mention", "entity"))
        labeled = "answer" in record
        answers = readers.expect(field("answer") if labeled else [None] * len(surfaces), list, "answer", where)
        if not len(surfaces) == len(names) == len(answers):
            lengths = f"{len(surfaces)} mention, {len(names)} entity, {len(answers)} answer"
            raise DatasetError(f"{where}: {lengths}, expected as many of each")
        ids = mention_ids(caption, surfaces)
        for id, surface, named, answer in zip(ids, surfaces, names, answers, strict=True):
            span = readers.locate(sentence, surface, counts)
            gold = readers.gold_of(answer, "answer", where)
            mentions.append(Mention(id, caption, sentence, surface, *span, gold, splits, image, labeled=labeled))
            if gold is not None:
                entities.setdefault(gold, Entity(gold, named))
    return readers.finish(name, mentions, list(entities.values()), counts, {}, licence, f"{SOURCE}, after {origin}")


def mention_ids(caption: str, mentions: list) -> list[str]:
    """Return the ids of a caption's mentions: its own, and where there are several its own with -0, -1, ..."""
    return [caption] if len(mentions) == 1 else [f"{caption}-{k}" for k in range(len(mentions))]


def _blanks(data: Path, name: str) -> set[str]:
    """Return the ids of captions whose picture is a blank file."""
    path = readers.find(data, *(f"{folder}mapping/ids_blank_image.json" for folder in FOLDERS))
    listed = readers.read_json(path, dict).get(name, []) if path else []
    return set(map(str, readers.expect(listed, list, f"the ids of {name}", str(path))))
