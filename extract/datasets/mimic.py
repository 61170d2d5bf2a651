"""The cleaned releases of MIMIC (KDD 2023), which most later papers use, as records: all three in one layout.

data/mimic/
    kb_entity.json                  [{id, qid, entity_name, attr, type, image_list: [file names]}]; M3EL's and MMoE's
                                    (KDD 2025) has desc, Wikidata's description, where MIMIC's has attr
    WIKIMEL_{train,dev,test}.json   [{mentions, sentence, imgPath, answer}]
      or RichpediaMEL_{train,dev,test}.json, or wiki_diverse_{train,dev,test}.json (M3EL, MMoE:
      WikiDiverse_{train,dev,test}.json), or renamed {train,dev,test}.json: one of them
    kb_image/                       pictures of entities
    mention_image/                  pictures of mentions, mention_images/ in the archive of Richpedia

Every .json may also be .json.gz or .zip. What MMoE adds to a mention (desc, entities) is not read.
"""

from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from common.errors import DatasetError
from common.records import Dataset, Entity, Image, Mention, split_mask
from extract.reading import picture_folders, readers

SOURCE = "https://github.com/pengfei-luo/MIMIC"
LICENCE = "none stated; after MELBench (MIT) and WikiDiverse (CC BY-SA 4.0)"
FAMILIES = ("WIKIMEL_", "RichpediaMEL_", "wiki_diverse_", "WikiDiverse_", "WikiMEL_", "")  # "": renamed


def load(data: Path) -> Dataset:
    """Return the records of the one release in `data`.

    Raises DatasetError if there is none, more than one, or part of one, and for a record of a wrong type.
    """
    knowledge = readers.find(data, "kb_entity.json")
    families = {family: readers.find_splits(data, [family + "{}.json"]) for family in FAMILIES}
    found = [family for family, files in families.items() if files]
    if knowledge is None or not found:
        looked = ["kb_entity.json", *(family + "{train,dev,test}.json" for family in FAMILIES)]
        raise readers.missing("mimic", data, looked, SOURCE, LICENCE, __doc__)
    if len(found) > 1:
        named = " and ".join(family.rstrip("_") or "{train,dev,test}.json" for family in found)
        raise DatasetError(f"{data} holds {named}, expected one release. Give each its own folder")
    counts: Counter = Counter()
    entities = _entities(knowledge, picture_folders.Pictures(data / "kb_image"), counts)
    pictures = picture_folders.pictures_in(data, "mention_image", "mention_images")
    mentions = [
        mention for split, path in families[found[0]].items() for mention in _mentions(path, split, pictures, counts)
    ]
    return readers.finish("mimic", mentions, entities, counts, {}, LICENCE, SOURCE)


def _entities(path: Path, pictures: picture_folders.Pictures, counts: Counter) -> list[Entity]:
    """Return the entities; of two with the same qid the first, and none for nil."""
    entities: dict[str, Entity] = {}
    for row, record in enumerate(readers.read_json(path, list)):
        where = f"{path} record {row}"
        field = readers.expect(record, dict, "an entity", where).get
        qid = readers.expect(field("qid"), str, "qid", where)
        name = unquote(readers.expect(field("entity_name"), str, "entity_name", where))
        attributes, described = (readers.expect(field(key) or "", str, key, where) for key in ("attr", "desc"))
        images = readers.strings(field("image_list") or [], "image_list", where)
        if readers.gold_of(qid, "qid", where) is None:
            counts["entities that are nil"] += 1
        elif qid in entities:
            counts["entities listed twice"] += 1
        else:
            text, longer = (attributes, described) if attributes else (described, "")
            entities[qid] = Entity(qid, name, text, _picture(images[0], pictures) if images else None, longer)
    return list(entities.values())


def _mentions(path: Path, split: str, pictures: picture_folders.Pictures, counts: Counter) -> list[Mention]:
    mentions = []
    captions: dict[tuple[str, str], str] = {}
    for row, record in enumerate(readers.read_json(path, list)):
        where = f"{path} record {row}"
        field = readers.expect(record, dict, "a mention", where).get
        sentence, surface = (readers.expect(field(key), str, key, where) for key in ("sentence", "mentions"))
        image = readers.expect(field("imgPath") or "", str, "imgPath", where)
        if surface not in sentence:
            surface = unquote(surface)
        start, end = readers.locate(sentence, surface, counts)
        id = f"{split}-{row}"
        mentions.append(
            Mention(
                id=id,
                caption=captions.setdefault((sentence, image), id),
                sentence=sentence,
                surface=surface,
                start=start,
                end=end,
                gold=readers.gold_of(field("answer"), "answer", where),
                splits=split_mask(split),
                image=_picture(image, pictures) if image else None,
                labeled="answer" in record,
            )
        )
    return mentions


def _picture(path: str, pictures: picture_folders.Pictures) -> Image:
    """Return the picture that a release names, perhaps converted: `KVQAimgs/7.png` is mention_image/7.jpg."""
    name = path.rsplit("/", 1)[-1]
    return pictures.find(name, name.split(".")[0] + ".jpg")
