"""What the adapters share: strict readers, spans, and the texts of their errors; pictures: picture_folders."""

import codecs
import itertools
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np

from common.errors import DatasetError
from common.paths import is_file, is_folder
from common.records import SPLITS, Dataset, Entity, Mention, split_mask
from extract.reading import layouts, packed
from extract.reading.entity_columns import Entities, field, pictures

# what releases call the three splits
SPLIT_OF = {
    "train": "train", "valid": "valid", "val": "valid", "dev": "valid", "validation": "valid", "test": "test",
}  # fmt: skip
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
BLANKS = bytes.maketrans(b"_-", b"  ")
CALLED = {str: "a string", list: "a list", dict: "a mapping"}
NIL_COUNT, UNLABELED_COUNT = "gold is nil", "mentions without a label"  # what was found, as coverage names it
Place = TypeVar("Place")  # where a record stands
NIL = ("", "nil")  # what releases write, in any case, for a mention that means no entity


def missing(name: str, data: Path, looked: Iterable[str], source: str, licence: str, doc: str | None) -> DatasetError:
    """Return the error for a release that is not there; `doc` is the adapter's docstring, whose trees it shows."""
    where = data if is_folder(data) else f"{data}, where there is no folder"
    files = ", ".join(looked).replace("{}", "{train,valid,test}")
    origin = "" if licence == "unknown" else f" Get it from {source} ({licence})."
    advice = layouts.below(name, data) or " Name its folder with --data."
    line = f"No {name} release in {where}: looked for {files}.{advice}{origin}"
    return DatasetError(line, (doc or "").partition("\n\n")[2].rstrip())


def find(data: Path, *names: str) -> Path | None:
    """Return the first of `names` that is a file under `data`, packed (.gz; for .json also .zip) or not."""
    for name in names:
        forms = (f"{name}.gz", f"{name[:-5]}.zip") if name.endswith(".json") else (f"{name}.gz",)
        for path in (data / form for form in (name, *forms)):
            if is_file(path):
                return path
    return None


def find_splits(data: Path, patterns: Iterable[str], optional: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return the file of each split, in the order of SPLITS, {} if there is none at all.

    A pattern is a file name in which `{}` stands for the split's name. Raises DatasetError if some are there
    but another, not `optional`, is not, and if two files are one split.
    """
    found: dict[str, Path] = {}
    for split, pattern in itertools.product(SPLITS, patterns):
        words = [word for word, meant in SPLIT_OF.items() if meant == split]
        here = [path for word in words if (path := find(data, pattern.format(word)))]
        if len(here) > 1 and split not in found:
            raise DatasetError(f"{here[0]} and {here[1].name} both hold the {split} split, expected one. Remove one")
        if here:
            found.setdefault(split, here[0])
    absent = [split for split in SPLITS if split not in found and split not in optional]
    if found and absent:
        here = next(iter(found.values()))
        raise DatasetError(
            f"{here} is present, but its counterpart for {' and '.join(absent)} is not: copied only in part?"
        )
    return found


def decode(raw: bytes, where: str) -> str:
    """Return the text of bytes; halves of surrogate pairs become U+FFFD.  Raises DatasetError if it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            return _repair(raw.decode("utf-8-sig", "surrogatepass"))  # some crawlers write half a pair as three bytes
        except UnicodeDecodeError:
            byte = f"byte 0x{raw[error.start]:02x} at position {error.start}"
            raise DatasetError(f"{where} is not UTF-8: {byte}. Convert it, or fetch it again") from None


def read_json(path: Path, kind: type) -> Any:
    """Return the JSON value of a file (see packed.whole), a list or dict as `kind` says.

    Control characters stay as they are, half surrogate pairs become U+FFFD. Raises DatasetError for what is
    not JSON, with its position, for another kind, and for a key that appears twice in one object.
    """
    return expect(_parse(decode(packed.whole(path), str(path)), str(path)), kind, "the whole file", str(path))


def read_jsonl(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield where each record stands (`mentions.jsonl line 3`) and the record; empty lines are skipped."""
    for number, line in enumerate(packed.lines(path), 1):
        if line.removeprefix(codecs.BOM_UTF8).strip():
            where = f"{path} line {number}"
            yield where, expect(_parse(decode(line, where), where), dict, "a record", where)


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(text, strict=False, object_pairs_hook=partial(_unique, where))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise DatasetError(f"{where} is not JSON: {error.msg} at {place}. Copied only in part?") from None
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise DatasetError(f"{where} is not JSON that can be read: {error}") from None
    return _repair(value) if SURROGATE.search(text) else value


def _unique(where: str, pairs: list[tuple[str, Any]]) -> dict:
    """dict(pairs), but json's own would silently keep the last of two."""
    record = dict(pairs)
    if len(record) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise DatasetError(f"{where}: key {twice!r} appears twice in one object")
    return record


def _repair(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_repair(item) for item in value]
    if isinstance(value, dict):
        return {_repair(key): _repair(item) for key, item in value.items()}
    return value


def expect(value: Any, kind: type, what: str, where: str) -> Any:
    """Return `value`.  Raises DatasetError if it is not a `kind` (str, list or dict)."""
    if not isinstance(value, kind):
        raise DatasetError(f"{where}: {what} must be {CALLED[kind]}, found {value!r:.60}")
    return value


def strings(value: Any, what: str, where: str) -> list[str]:
    """Return `value`.  Raises DatasetError if it is not a list of strings."""
    return [expect(item, str, f"each of {what}", where) for item in expect(value, list, what, where)]


def gold_of(value: Any, what: str, where: str) -> str | None:
    """Return the id of the gold entity, None for nil.  Raises DatasetError if it is neither null nor a string."""
    id = expect("" if value is None else value, str, what, where)
    return None if id.strip().lower() in NIL else id


def candidates_of(given: Iterable[str], counts: Counter) -> tuple[str, ...]:
    """Return the ids of a candidate list without those that mean no entity, which are counted."""
    listed = list(given)
    ids = tuple(id for id in listed if id.strip().lower() not in NIL)
    counts["candidates that are nil"] += len(listed) - len(ids)
    return ids


def read_split_ids(path: Path, dataset: str = "") -> dict[str, int]:
    """Return the split mask of every id in a `{train, dev, test: [ids]}` file, which may nest it under `dataset`."""
    lists = read_json(path, dict)
    masks: dict[str, int] = {}
    for name, ids in expect(lists.get(dataset, lists), dict, "the lists", str(path)).items():
        mask = mask_of(name, str(path))
        for id in expect(ids, list, f"split {name!r}", str(path)):
            masks[str(id)] = masks.get(str(id), 0) | mask
    return masks


def mask_of(name: str, where: str) -> int:
    """Return the mask of a split that a release calls `name`.  Raises DatasetError for a name that means none."""
    if name.lower() not in SPLIT_OF:
        raise DatasetError(f"{where}: unknown split {name!r}, expected one of: {', '.join(SPLIT_OF)}")
    return split_mask(SPLIT_OF[name.lower()])


def clean_title(title: bytes) -> bytes:
    """Return what all ways to write a page's title have in common: percent-encoded or not, `_` or `-` for blanks."""
    return b" ".join((unquote_to_bytes(title) if b"%" in title else title).translate(BLANKS).split())


def locate(
    sentence: str, surface: str, counts: Counter, given: tuple[Any, Any] = (None, None), left: list[str] | None = None
) -> tuple[int, int]:
    """Return the character span of a mention in its sentence, (-1, -1) if it does not stand there.

    `given` is the release's own span, trusted where the mention stands there; else the nearest occurrence is
    taken. `left` are the words before the mention: without a span, the occurrence after as many is taken.
    Without both it is the first that is a whole word ("Butler" before "Butlers"). What was found is counted.
    """
    start, end = given
    spanned = type(start) is int and type(end) is int and 0 <= start < end <= len(sentence)
    if spanned and sentence[start:end] == surface:
        return start, end
    places = [place for place in range(len(sentence)) if surface and sentence.startswith(surface, place)]
    if not places:
        counts["spans not found"] += 1
        return -1, -1
    if spanned:
        counts["spans moved to where the mention stands"] += 1
        best = min(places, key=lambda place: abs(place - start))
    elif left is not None:
        words = sum(bool(word.strip()) for word in left)
        best = min(places, key=lambda place: abs(len(sentence[:place].split()) - words))
    else:
        counts["spans found more than once"] += sentence.count(surface) > 1
        best = next((place for place in places if _is_whole_word(sentence, surface, place)), places[0])
    return best, best + len(surface)


def _is_whole_word(sentence: str, surface: str, place: int) -> bool:
    end = place + len(surface)
    grows_left = place > 0 and sentence[place - 1].isalnum() and surface[0].isalnum()
    grows_right = end < len(sentence) and sentence[end].isalnum() and surface[-1].isalnum()
    return not (grows_left or grows_right)


class Seen:
    """Ids that were read, as hashes: the ids of 6,000,000 records and where they stand would take 1.5 GB."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, id: str) -> None:
        """Note one more."""
        self._hashes.append(hash(id))

    @property
    def doubtful(self) -> set[int]:
        """The hashes that several ids have: almost always, one id that stands there twice."""
        ordered = np.sort(np.frombuffer(self._hashes, np.int64))
        return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())

    def twice(self, again: Iterable[tuple[str, Place]]) -> tuple[str, Place, Place] | None:
        """Return the first id that repeats another and the places of both, None if none does.

        `again` are all ids and their places once more.
        """
        doubtful = self.doubtful
        first: dict[str, Place] = {}
        for id, place in again if doubtful else ():
            if hash(id) in doubtful:
                if id in first:
                    return id, first[id], place
                first[id] = place
        return None


def finish(
    name: str,
    mentions: list[Mention],
    entities: Sequence[Entity],
    counts: Counter,
    names: Mapping[str, str],
    licence: str,
    source: str,
) -> Dataset:
    """Return the dataset, with the entities that only gold or candidates name added, and the findings counted.

    `names` gives such an entity its name, else its id is its name. Raises DatasetError if an id stands twice, is
    empty, or holds a NUL.
    """
    every = (id for mention in mentions for id in (mention.gold, *(mention.candidates or ())) if id is not None)
    named = dict.fromkeys(every)
    known = named.keys() & field(entities, "id")
    added = [Entity(id, names.get(id, id)) for id in named if id not in known]
    if added:
        entities = [*entities, *added] if isinstance(entities, list) else Entities(itertools.chain(entities, added))
    for what, records in (("mention", mentions), ("entity", entities)):
        seen = Seen()
        for place, id in enumerate(ids := field(records, "id")):
            if not id.strip():
                raise DatasetError(f"{name}: {what} id {id!r} in record {place} is empty. Give it one")
            if "\0" in id:  # a column of strings ends each at its last other character
                raise DatasetError(f"{name}: {what} id {id!r} in record {place} holds a NUL. Give it another")
            seen.add(id)
        if twice := seen.twice((id, place) for place, id in enumerate(ids)):
            id, first, second = twice
            raise DatasetError(f"{name}: {what} id {id!r} is used twice, in records {first} and {second}")
    double = [mention for mention in mentions if mention.splits.bit_count() > 1]
    found = {
        "captions": len({mention.caption for mention in mentions}),
        "captions in more than one split": len({mention.caption for mention in double}),
        "mentions in more than one split": len(double),
        "mentions in no split": sum(not mention.splits for mention in mentions),
        "mentions that name no picture": sum(mention.image is None for mention in mentions),
        UNLABELED_COUNT: sum(not mention.labeled for mention in mentions),
        NIL_COUNT: sum(mention.labeled and mention.gold is None for mention in mentions),
        **counts,
        "entities added from gold or candidates": len(added),
        "entities without text": sum(not text for text in field(entities, "text")),
        "entities that name no picture": sum(image is None for image in pictures(entities)),
    }
    return Dataset(name, mentions, entities, licence, source, {what: count for what, count in found.items() if count})
