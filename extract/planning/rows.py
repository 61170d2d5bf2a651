"""The rows of a cache's tables: their order, their texts and pictures, and hashes of both."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cache.fingerprint import NO_CONTENT, content_hash
from cache.kinds import IMAGE_STATUS
from cache.schema import UNLABELED
from common.records import Dataset, Entity, Face, Image, Mention
from extract import images
from extract.planning.layout import Layout

MOST_BYTES = 256  # of a string
Picture = tuple[bytes, int]  # content hash of the file, reason code


@dataclass(frozen=True)
class Rows:
    """Entities and mentions in row order.

    Mentions of one sentence stand together (see extract.planning.row_order), so that no shard border separates them and
    each distinct sentence is encoded once.
    """

    entities: list[Entity]
    mentions: list[Mention]
    layout: Layout
    pictures: dict[Path, Picture]

    @classmethod
    def hashed(cls, dataset: Dataset, layout: Layout, workers: int) -> "Rows":
        """Read and hash every distinct picture file of a release whose records are in row order."""
        named = (record.image for record in (*dataset.entities, *dataset.mentions))
        paths = dict.fromkeys(image.path for image in named if image is not None and image.path is not None)
        with ThreadPoolExecutor(workers) as pool:
            found = dict(zip(paths, pool.map(_picture, paths), strict=True))
            return cls(dataset.entities, dataset.mentions, layout, found)

    def records(self, table: str) -> list[Entity] | list[Mention]:
        """Return the records of table "entity" or "mention"."""
        return self.entities if table == "entity" else self.mentions

    @cached_property
    def ids(self) -> dict[str, dict[str, np.ndarray]]:
        """Columns of entity.ids and mention.ids that the release alone decides, by part."""
        entities = {entity.id: row for row, entity in enumerate(self.entities)}
        return {
            "entity.ids": {
                "id": strings([e.id for e in self.entities]),
                "name": strings([e.name for e in self.entities]),
            },
            "mention.ids": {
                "id": strings([m.id for m in self.mentions]),
                "caption": strings([m.caption for m in self.mentions]),
                "surface": strings([m.surface for m in self.mentions]),
                "type": strings([m.type for m in self.mentions]),
                "splits": np.array([m.splits for m in self.mentions], np.uint8),
                "gold": gold_rows(self.mentions, entities),
            },
        }

    @property
    def faces(self) -> list[tuple[Face, ...]] | None:
        """The faces of each mention, where --faces was given."""
        given = [mention.faces for mention in self.mentions]
        return None if None in given else given

    @cached_property
    def described(self) -> bool:
        """Whether some entity has a second text."""
        return any(entity.description for entity in self.entities)

    def texts(self, table: str, row: int) -> dict[str, str]:
        """Return the texts of a row of which a column each holds the vector, by column of the part that reads them."""
        if table == "mention":
            return mention_texts(self.mentions[row])
        entity = self.entities[row]
        texts = {"text": entity_text(entity)}
        # without a description the other text: one vector of "" would tie all such entities of a list
        return texts | {"description": entity.description or texts["text"]} if self.described else texts

    @cached_property
    def read(self) -> dict[str, list[str]]:
        """The one text of each row that encoders read token by token, by table."""
        return {"entity": list(map(entity_text, self.entities)), "mention": [m.sentence for m in self.mentions]}

    @cached_property
    def text_content(self) -> dict[str, list[bytes]]:
        """Hashes of everything that text encoders read of a row, by table."""
        return {table: [text_content(record) for record in self.records(table)] for table in ("entity", "mention")}

    def unplaced(self) -> int:
        """Return how many distinct pictures the release names in a way that no file name follows from."""
        images = (record.image for record in (*self.entities, *self.mentions))
        return len({image for image in images if image is not None and image.path is None and image.reason != "blank"})

    def label(self, table: str, row: int) -> str:
        """Return how messages call a row."""
        return f"{table} {self.records(table)[row].id!r} (row {row})"

    def picture(self, image: Image | None) -> Picture:
        """Return the content hash and the reason code of a picture, before anything is decoded."""
        if image is None or image.reason == "blank":  # the release's stand-in for a picture that it has not
            return NO_CONTENT, IMAGE_STATUS.index("none")
        if image.path is None:
            return NO_CONTENT, IMAGE_STATUS.index("missing")
        return self.pictures[image.path]


def gold_rows(mentions: Sequence[Mention], rows: Mapping[str, int]) -> np.ndarray:
    """Return the row of each mention's gold entity, (N,) int32: -1 for nil, UNLABELED where nobody has said.

    `rows` are those of entities by id.
    """
    return np.array(
        [rows[m.gold] if m.gold is not None else -1 if m.labeled else UNLABELED for m in mentions], np.int32
    )


def entity_text(entity: Entity) -> str:
    """Return what the encoders read of an entity: `name: text`."""
    return f"{entity.name}: {entity.text}" if entity.text else entity.name


def mention_texts(mention: Mention) -> dict[str, str]:
    """Return the texts of a mention by the column that holds the vector of each."""
    return {
        "mention": mention.surface,
        "sentence": mention.sentence,
        "mention_sentence": f"{mention.surface} [SEP] {mention.sentence}",
    }


def text_content(record: Entity | Mention) -> bytes:
    """Return the hash of everything that text encoders read of a row."""
    if isinstance(record, Entity):
        return content_hash(entity_text(record), record.description)
    return content_hash(record.surface, record.sentence, record.start, record.end)


def name_content(entity: Entity) -> bytes:
    """Return the hash of an entity's one text: without the description, whose change leaves BERT's keys."""
    return content_hash(entity_text(entity), "")


def limit(dataset: Dataset, captions: int) -> Dataset:
    """Keep the mentions of the first `captions` captions."""
    kept = set(list(dict.fromkeys(mention.caption for mention in dataset.mentions))[:captions])
    return replace(dataset, mentions=[mention for mention in dataset.mentions if mention.caption in kept])


def strings(values: list[str]) -> np.ndarray:
    """Return fixed-length UTF-8, zero padded, each as `stored`.

    As wide as 16 bytes or the power of two that all need, so that few new texts change the type.
    """
    encoded = list(map(stored, values))
    return np.array(encoded, dtype=f"|S{1 << (max([16, *map(len, encoded)]) - 1).bit_length()}")


def stored(value: str, limit_bytes: int = MOST_BYTES) -> bytes:
    """Return a text as a column of strings holds it: longer ones are cut at a character, NUL is replaced."""
    return _cut(value.replace("\0", "\ufffd").encode("utf-8", "replace"), limit_bytes)


def _cut(text: bytes, limit_bytes: int) -> bytes:
    return text if len(text) <= limit_bytes else text[:limit_bytes].decode("utf-8", "ignore").encode()


def _picture(path: Path) -> Picture:
    data, status = images.read(path)
    return (hashlib.sha256(data).digest() if data else NO_CONTENT), IMAGE_STATUS.index(status)
