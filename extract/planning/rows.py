"""The rows of a cache's tables: their order, their texts and pictures, and hashes of both.

What stands for each row is 32 bytes in an array (n, 32), and a column of strings is cut out where it is asked for, so
that rows of 6,000,000 entities take 0.2 GB beside the entities themselves.
"""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from functools import cached_property
from pathlib import Path

import numpy as np

from cache.fingerprint import NO_CONTENT, content_hash
from cache.kinds import IMAGE_STATUS
from cache.schema import UNLABELED
from common.records import Dataset, Entity, Face, Image, Mention
from extract import images
from extract.planning.layout import Layout
from extract.reading.entity_columns import Told, field, pictures
from extract.reading.string_columns import StringColumn

NONE, MISSING = IMAGE_STATUS.index("none"), IMAGE_STATUS.index("missing")
TABLES = ("entity", "mention")
NOBODY = Mention("", "", "", "", -1, -1, None, 0)
Picture = tuple[bytes, int]  # content hash of the file, reason code


@dataclass(frozen=True)
class Rows:
    """Entities and mentions in row order.

    Mentions of one sentence stand together (see extract.planning.row_order), so that no shard border separates them and
    each distinct sentence is encoded once.
    """

    entities: Sequence[Entity]
    mentions: Sequence[Mention]
    layout: Layout
    pictures: dict[Path, Picture]
    aliases: Mapping[str, tuple[str, ...]] = field_of(default_factory=dict)  # of entities by id

    @classmethod
    def hashed(cls, dataset: Dataset, layout: Layout, workers: int) -> "Rows":
        """Read and hash every distinct picture file of a release whose records are in row order."""
        named = itertools.chain(*map(pictures, (dataset.entities, dataset.mentions)))
        paths = dict.fromkeys(image.path for image in named if image is not None and image.path is not None)
        with ThreadPoolExecutor(workers) as pool:
            found = dict(zip(paths, pool.map(_picture, paths), strict=True))
            known = rows_of(dataset.entities, dataset.aliases) if dataset.aliases else ()
            aliases = {id: dataset.aliases[id] for id in known}
            return cls(dataset.entities, dataset.mentions, layout, found, aliases)

    def records(self, table: str) -> Sequence[Entity] | Sequence[Mention]:
        """Return the records of table "entity" or "mention"."""
        return self.entities if table == "entity" else self.mentions

    @cached_property
    def ids(self) -> dict[str, dict[str, "np.ndarray | StringColumn"]]:
        """Columns of entity.ids and mention.ids that the release alone decides, by part."""
        return {
            "entity.ids": {name: StringColumn(self.entities, name) for name in ("id", "name")},
            "mention.ids": {
                **{name: StringColumn(self.mentions, name) for name in ("id", "caption", "surface", "type")},
                "splits": np.array([m.splits for m in self.mentions], np.uint8),
                "gold": gold_rows(self.mentions, rows_of(self.entities, {mention.gold for mention in self.mentions})),
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
        return any(field(self.entities, "description"))

    def texts(self, table: str, row: int) -> dict[str, str]:
        """Return the texts of a row of which a column each holds the vector, by column of the part that reads them."""
        if table == "mention":
            return mention_texts(self.mentions[row])
        entity = self.entities[row]
        texts = {"text": entity_text(entity)}
        # without a description the other text: one vector of "" would tie all such entities of a list
        return texts | {"description": entity.description or texts["text"]} if self.described else texts

    def text_columns(self, table: str) -> list[str]:
        """Return the columns of a table whose vectors are of one text each, as `texts` has them."""
        if table == "mention":
            return list(mention_texts(NOBODY))
        return ["text", "description"] if self.described else ["text"]

    @cached_property
    def read(self) -> dict[str, Sequence[str]]:
        """The one text of each row that encoders read token by token, by table."""
        return {"entity": Told(self.entities, entity_text), "mention": [m.sentence for m in self.mentions]}

    @cached_property
    def text_content(self) -> dict[str, np.ndarray]:
        """Hashes of everything that text encoders read of a row, by table, (n, 32) uint8."""
        return {
            "entity": self._entity_content[1],
            "mention": hashes((text_content(mention) for mention in self.mentions), len(self.mentions)),
        }

    @property
    def name_content(self) -> np.ndarray:
        """Hashes of each entity's one text, without the description, whose change leaves BERT's keys: (E, 32) uint8."""
        return self._entity_content[0]

    @cached_property
    def _entity_content(self) -> tuple[np.ndarray, np.ndarray]:
        """Both hashes of entities, one array where no entity has a description."""
        names = hashes((one_text(entity_text(entity)) for entity in self.entities), len(self.entities))
        if not self.described:
            return names, names
        return names, hashes(map(text_content, self.entities), len(self.entities))

    @cached_property
    def picture_content(self) -> dict[str, np.ndarray]:
        """Hashes of each row's picture file, NO_CONTENT where there is none, by table, (n, 32) uint8."""
        found = {}
        for table in TABLES:
            found[table] = np.zeros((len(self.records(table)), len(NO_CONTENT)), np.uint8)  # takes no memory yet
            for row, image in enumerate(pictures(self.records(table))):
                content, _ = self.picture(image)
                if content is not NO_CONTENT:
                    found[table][row] = np.frombuffer(content, np.uint8)
        return found

    @cached_property
    def picture_status(self) -> dict[str, np.ndarray]:
        """The reason code of each row's picture before anything is decoded, by table, (n,) uint8."""
        told = {table: (self.picture(image)[1] for image in pictures(self.records(table))) for table in TABLES}
        return {table: np.fromiter(of, np.uint8, len(self.records(table))) for table, of in told.items()}

    def unplaced(self) -> int:
        """Return how many distinct pictures the release names in a way that no file name follows from."""
        images = itertools.chain(*map(pictures, (self.entities, self.mentions)))
        return len({image for image in images if image is not None and image.path is None and image.reason != "blank"})

    def label(self, table: str, row: int) -> str:
        """Return how messages call a row."""
        return f"{table} {self.records(table)[row].id!r} (row {row})"

    def picture(self, image: Image | None) -> Picture:
        """Return the content hash and the reason code of a picture, before anything is decoded."""
        if image is None or image.reason == "blank":  # the release's stand-in for a picture that it has not
            return NO_CONTENT, NONE
        if image.path is None:
            return NO_CONTENT, MISSING
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


def one_text(text: str) -> bytes:
    """Return the hash of a text that is read by itself."""
    return content_hash(text, "")


def hashes(contents: Iterable[bytes], count: int) -> np.ndarray:
    """Return so many hashes of 32 bytes as an array (count, 32) uint8."""
    found = np.fromiter(contents, np.dtype("V32"), count)
    return found.view(np.uint8).reshape(count, 32)


def rows_of(entities: Sequence[Entity], wanted: Collection[str | None]) -> dict[str, int]:
    """Return the rows of those entities that are wanted, by id."""
    return {id: row for row, id in enumerate(field(entities, "id")) if id in wanted}


def named_by(mentions: Iterable[Mention]) -> set[str | None]:
    """Return the ids of the golds and of the candidates of mentions."""
    return {id for mention in mentions for id in (mention.gold, *(mention.candidates or ()))}


def limit(dataset: Dataset, captions: int) -> Dataset:
    """Keep the mentions of the first `captions` captions."""
    kept = set(list(dict.fromkeys(mention.caption for mention in dataset.mentions))[:captions])
    return replace(dataset, mentions=[mention for mention in dataset.mentions if mention.caption in kept])


def _picture(path: Path) -> Picture:
    data, status = images.read(path)
    return (hashlib.sha256(data).digest() if data else NO_CONTENT), IMAGE_STATUS.index(status)
