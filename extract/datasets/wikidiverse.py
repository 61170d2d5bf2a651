"""The WikiDiverse releases as records.

    data/wikidiverse/                                       with ten candidates (what DRIN's raw data has)
        candidates/{train,valid,test}_w_10cands.json        [[sentence, img_url, mention, type, left, right,
                                                              entity_url, candidates, topic, start, end]]
        entities/entity2brief_{train,valid,test}.json       optional: {name: text}
        entities/wikipedia_entity2desc_filtered.tsv         optional: name@@@@text
        entities/wikipedia_entity2imgs.tsv                  optional: name@@@@url[AND]url...
        images/ (or wikinewsImgs/ for the mentions')        md5 of a url's last segment, and its suffix

    data/wikidiverse/                                       annotated (V2), no candidates
        mentions/{train,valid,test}.json                    [[sentence, img_url, topic,
          or WikiDiverse.json and splits.json                 [[mention, type, start, end, wiki_url], ...]]]
        images/ (or wikinewsImgs/)

    data/wikidiverse/              the copy of KGMEL, Wikidata ids: see docs/guides/get-the-data.md
        WikiDiverse.json, and splits.json or mapping/ids_split_mappings.json

Every .json may also be .json.gz or .zip, every .tsv also .tsv.gz; the files of candidates/, entities/ and mentions/
may also lie in the folder itself.
"""

import hashlib
import itertools
import os
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from common.errors import DatasetError
from common.paths import is_folder
from common.records import Dataset, Entity, Image, Mention, split_mask
from extract.datasets import kgmel
from extract.reading import packed, picture_folders, readers

SOURCE = "https://github.com/wangxw5/wikiDiverse"
LICENCE = "CC BY-SA 4.0"
TEN = ("candidates/{}_w_10cands.json", "wikidiverse_w_cands/{}_w_10cands.json", "{}_w_10cands.json")
ANNOTATED = ("mentions/{}.json", "{}.json")
NAME = "WikiDiverse"  # of its file in one piece, annotated or KGMEL's
TITLE = re.compile(r"(?:^|[&;])title=([^&]*)")
SCRIPT = re.compile(r"(?:index\.php|//[^/?]+/)\?(.*)", re.DOTALL)  # of a url that asks for a page by its title
QUERY = re.compile(r"\?[a-z_]+=.*", re.DOTALL)  # a title may end in a question mark, but not go on like this


def load(data: Path) -> Dataset:
    """Return the records of a release in one of the layouts above, the first that is there.

    Raises DatasetError if there is none, or part of one, and for a record of a wrong type.
    """
    counts: Counter = Counter()
    if files := readers.find_splits(data, TEN):
        return _with_candidates(data, files, counts)
    if files := readers.find_splits(data, ANNOTATED):
        rows = [
            (f"{split}-{row}", split_mask(split), record, f"{path} record {row}")
            for split, path in files.items()
            for row, record in enumerate(readers.read_json(path, list))
        ]
        return _annotated(data, rows, counts)
    whole, lists = kgmel.find(data, NAME), kgmel.find_lists(data)
    if whole is None or lists is None:
        looked = kgmel.SPLIT_LISTS if whole else (*TEN, *ANNOTATED, "WikiDiverse.json and splits.json")
        raise readers.missing("wikidiverse", data, looked, SOURCE, LICENCE, __doc__)
    rows = kgmel.rows(whole, lists, NAME, counts)
    if any(isinstance(record, dict) for _, _, record, _ in rows):
        return kgmel.load(data, NAME, rows, counts, LICENCE, SOURCE)
    return _annotated(data, rows, counts)


def _with_candidates(data: Path, files: dict[str, Path], counts: Counter) -> Dataset:
    """Return the records of the release with ten candidates: one row a mention, of a caption with its neighbors."""
    pictures = _mention_pictures(data)
    titles: dict[str, str] = {}
    mentions = []
    for split, path in files.items():
        captions: dict[tuple[str, str], str] = {}
        for row, record in enumerate(readers.read_json(path, list)):
            where, id = f"{path} record {row}", f"{split}-{row}"
            if len(readers.expect(record, list, "a mention", where)) < 11:
                raise DatasetError(f"{where}: expected 11 fields, found {len(record)}")
            sentence, url, surface, kind, left, _, gold, candidates, _, *span = record
            sentence, url, surface = readers.strings([sentence, url or "", surface], "sentence, url, mention", where)
            left = None if left is None else readers.strings(left, "left context", where)
            given = [_page(each, titles) for each in readers.strings(candidates or [], "candidates", where)]
            start, end = readers.locate(sentence, surface, counts, tuple(span[:2]), left)
            mentions.append(
                Mention(
                    id=id,
                    caption=captions.setdefault((sentence, url), id),
                    sentence=sentence,
                    surface=surface,
                    start=start,
                    end=end,
                    gold=_page(readers.expect(gold or "", str, "entity url", where), titles),
                    splits=split_mask(split),
                    image=_picture(url, pictures),
                    candidates=tuple(dict.fromkeys(page for page in given if page is not None)),
                    type=readers.expect(kind or "", str, "type", where),
                )
            )
    return readers.finish("wikidiverse", mentions, _entities(data, titles), counts, {}, LICENCE, SOURCE)


def _annotated(data: Path, rows: list[kgmel.Row], counts: Counter) -> Dataset:
    """Return the records of the annotated release (V2).  A row is (id, split mask, record, place)."""
    pictures = _mention_pictures(data)
    titles: dict[str, str] = {}
    mentions = []
    for caption, splits, record, where in rows:
        if len(readers.expect(record, list, "a caption", where)) < 4:
            raise DatasetError(f"{where}: expected sentence, url, topic and mentions, found {len(record)} fields")
        sentence, url = readers.strings([record[0], record[1] or ""], "sentence and url", where)
        annotations = readers.expect(record[3], list, "the mentions", where)
        for id, annotation in zip(kgmel.mention_ids(caption, annotations), annotations, strict=True):
            if len(readers.expect(annotation, list, "a mention", where)) < 5:
                raise DatasetError(f"{where}: expected mention, type, start, end and url, found {annotation!r:.60}")
            surface, kind, start, end, gold = annotation[:5]
            surface, kind, gold = readers.strings([surface, kind or "", gold or ""], "mention, type and url", where)
            span = readers.locate(sentence, surface, counts, (start, end))
            mentions.append(
                Mention(
                    id,
                    caption,
                    sentence,
                    surface,
                    *span,
                    _page(gold, titles),
                    splits,
                    _picture(url, pictures),
                    None,
                    kind,
                )
            )
    return readers.finish("wikidiverse", mentions, _entities(data, titles), counts, {}, LICENCE, SOURCE)


def _page(url: str, titles: dict[str, str]) -> str | None:
    """Return the id of the page that a url names, None for nil, and note its title in `titles`.

    Urls are damaged (`nhttps://`, `]https://`), percent-encoded or not, with `_` or `-` for blanks, so a page's
    id is its title without these: exact titles would find 82.0% of test's golds among the candidates, not 88.0%.
    """
    if readers.gold_of(url, "url", "") is None:
        return None
    title = unquote(_encoded_title(url)).partition("#")[0]  # #, encoded or not, is in no title
    title = picture_folders.composed(" ".join(title.replace("_", " ").split()))
    title = title if "://" in title else QUERY.sub("", title)
    id = " ".join(title.replace("-", " ").split()) or title
    if not id:
        return None
    titles.setdefault(id, title)
    return id


def _encoded_title(url: str) -> str:
    """Return the title in a url as it is written there, without the place on the page that it names.

    It is `Foo` of .../wiki/Foo#History, .../w/index.php?oldid=7&title=Foo, .../?title=Foo and .../w/index.php/Foo; of
    .../wiki/Foo?oldid=7 it is `Foo?oldid=7`. What is no url is a title, and a url without a title stays whole.
    """
    url = url.partition("#")[0]
    if (query := SCRIPT.search(url)) and (asked := TITLE.search(query[1])):
        return asked[1].replace("+", " ")
    _, prefix, tail = url.partition("/wiki/")
    return tail if prefix else url.partition("/index.php/")[2] or url


def _entities(data: Path, titles: dict[str, str]) -> list[Entity]:
    """Return an entity for every page, with the texts and pictures of the side files that are there."""
    briefs: dict[str, str] = {}
    brief_files = readers.find_splits(data, ("entities/entity2brief_{}.json", "entity2brief_{}.json"))
    for path in brief_files.values():
        for name, text in readers.read_json(path, dict).items():
            briefs.setdefault(_page(name, {}) or name, readers.expect(text or "", str, f"text of {name!r}", str(path)))
    tables = ("wikipedia_entity2desc_filtered.tsv", 0), ("wikipedia_entity2imgs.tsv", 1)
    descriptions, urls = (
        _lookup(readers.find(data, f"entities/{table}", table), titles, header) for table, header in tables
    )
    pictures = picture_folders.Pictures(data / "images", _digest)
    entities = []
    for id, title in titles.items():
        description = descriptions.get(id, "")
        image = _first_picture(urls.get(id, ""), pictures)
        text = briefs.get(id) or description
        entities.append(Entity(id, title, text, image, description if brief_files else ""))
    return entities


def _lookup(path: Path | None, titles: dict[str, str], header: int) -> dict[str, str]:
    """Return what a `name@@@@value` table says, after `header` lines, of the pages in `titles`.

    Streamed: 9.1 million lines, of which some 80 thousand are wanted. Of several lines for one page the one
    whose name is its very title is taken, else the first.
    """
    if path is None:
        return {}
    wanted = {id.encode(): id for id in titles}
    found: dict[str, str] = {}
    for line in itertools.islice(packed.lines(path), header, None):
        name, separator, value = line.partition(b"@@@@")
        id = wanted.get(readers.clean_title(name))
        if separator and id is not None:
            exact = unquote_to_bytes(name).replace(b"_", b" ").decode("utf-8", "replace") == titles[id]
            if exact or id not in found:
                found[id] = value.decode("utf-8", "replace").strip()
    return found


def _mention_pictures(data: Path) -> picture_folders.Pictures:
    folder = next((name for name in ("wikinewsImgs", "images") if is_folder(data / name)), "images")
    return picture_folders.Pictures(data / folder, _digest)


def _digest(name: str) -> str:
    return name[:32]


def _picture(url: str, pictures: picture_folders.Pictures) -> Image | None:
    """Return the picture of a url: named by the md5 of its last segment, as written there (not unquoted)."""
    segment = url.strip().rsplit("/", 1)[-1]
    if not segment:
        return Image(None, "name") if url.strip() else None
    suffix = os.path.splitext(segment)[1]
    digest = hashlib.md5(segment.encode(), usedforsecurity=False).hexdigest()
    return pictures.find(digest + (".png" if suffix.lower() == ".svg" else suffix))


def _first_picture(urls: str, pictures: picture_folders.Pictures) -> Image | None:
    """Return the first of an entity's pictures that is there, else the first."""
    images = [image for url in urls.split("[AND]") if (image := _picture(url, pictures))]
    there = (image for image in images if image.path and image.path.name in pictures.names)
    return next(there, images[0] if images else None)
