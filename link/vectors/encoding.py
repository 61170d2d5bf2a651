"""The encoders of a cache at work on records that it does not hold: the code of an extraction, in memory."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from cache.checks.diff import ABSENT, recipes
from cache.kinds import IMAGE_STATUS, KINDS
from cache.manifests.entries import PartEntry
from cache.names import ColumnName, PartName
from cache.reader import Reader
from cache.schema import HOMES
from cache.writing.writer import Shard
from common.errors import CacheError, ConfigError
from common.foreign import printable
from common.records import Dataset, Entity, Mention
from extract.computing.derived_parts import Derived
from extract.computing.part_clock import Clock
from extract.computing.picture_parts import Pictures
from extract.computing.row_range import Range
from extract.computing.text_parts import Texts
from extract.config.knobs import OPTIONS
from extract.encoders import Encoders, of_files
from extract.encoders.base import Columns
from extract.planning.candidate_lists import Lists
from extract.planning.layout import Layout
from extract.planning.rows import Rows
from extract.planning.shards import Plan
from link.vectors import encoder_settings
from link.vectors.encoder_settings import Asked, config_of

LONGEST = 60  # characters of a value that is shown
WEIGHTS = "weights"  # the field of a recipe that says most
WORDS = {
    "weights": "weights", "config": "a config.json", "library": "the library", "vocabulary": "a vocabulary",
    "tokenizer": "a tokenizer", "cut": "texts cut at the", "blank": "how a blank before a text is read",
    "pooling": "pooling", "compute": "precision", "batch": "calls of", "architecture": "the architecture",
    "encoder": "the encoder", "code": "code", "prompt": "the prompt", "max_tokens": "texts of at most so many tokens:",
}  # fmt: skip
DIGEST = re.compile(r"[0-9a-f]{64}")
NO_PART = PartEntry({}, {}, "", {})


class Encoding:
    """Makes `parts` of new records exactly as those of a cache were made.

    Raises ConfigError where an encoder at hand is not the cache's, naming what of which recipe differs, and
    WeightsError for weights that are not to be had. Models are loaded when the first record needs them.
    """

    def __init__(self, reader: Reader, parts: Collection[PartName], asked: Asked, device: str) -> None:
        self.parts = _with_inputs(parts)
        if lost := [part for part in self.parts if part not in reader.manifest.parts]:
            raise CacheError(f"{reader.path} lacks {lost[0]}, of which the head's columns are made. Pull it whole")
        self._length = reader.manifest.candidates
        self.config = config_of(reader.manifest, self.parts, asked, device=device, candidates=self._length)
        self._check_files(reader)
        before = torch.get_num_threads()
        self.encoders = Encoders(self.config)
        self._threads = torch.get_num_threads()  # one for toys
        torch.set_num_threads(before)
        self._neutrals: dict[str, Columns] = {}
        self._check(reader)

    def contents(self, mentions: Sequence[Mention]) -> tuple[list[bytes], list[str]]:
        """Return for each mention the hashes of its text and of its picture's file, as a cache has them, 64 bytes.

        And what is known of the picture before it is decoded: a reason code in words, or "ok".
        """
        rows = self._rows([], mentions)
        pictures = [rows.picture(mention.image) for mention in mentions]
        texts = rows.text_content["mention"]
        hashes = [text.tobytes() + picture for text, (picture, _) in zip(texts, pictures, strict=True)]
        return hashes, [IMAGE_STATUS[code] for _, code in pictures]

    def mentions(self, mentions: Sequence[Mention]) -> "Drafted":
        """Return the columns of mentions, of which those of one sentence must stand together."""
        return self._made("mention", self._plan([], mentions))

    def entities(self, entities: Sequence[Entity]) -> "Drafted":
        """Return the columns of entities."""
        return self._made("entity", self._plan(entities, []))

    def _rows(self, entities: Sequence[Entity], mentions: Sequence[Mention]) -> Rows:
        e, n = len(entities), len(mentions)
        borders = {"entity": [(0, e)] if e else [], "mention": [(0, n)] if n else []}
        return Rows.hashed(
            Dataset("new", list(mentions), list(entities)), Layout(borders, ((e, n),)), self.config.workers
        )

    def _plan(self, entities: Sequence[Entity], mentions: Sequence[Mention]) -> Plan:
        n = len(mentions)
        lists = Lists(
            candidates=np.full((n, self._length), -1, np.int32),
            gold=np.full(n, -1, np.int32),
            lexical=np.zeros((n, self._length), np.float32),
            lexical_gold=np.zeros(n, np.float32),
            origin="",
        )
        return Plan(self.config, self._rows(entities, mentions), lists, self.encoders)

    def _made(self, table: str, plan: Plan) -> "Drafted":
        wanted = [
            part for part in (PartName(f"{table}.ids"), *self.parts) if HOMES.get(part.table, part.table) == table
        ]
        draft = Drafted()
        missing = [plan.whole(part, 0) for part in wanted]
        rows = Range(plan, draft, table, 0, missing, lambda count: None, Clock())  # type: ignore[arg-type]
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            Texts(plan, self.encoders, self.config).fill(rows)
            pictures = Pictures(plan, self.encoders, self.config, self._neutrals)
            pictures.fill(rows)
            rows.settle()
            self._neutrals = pictures.neutrals
            Derived(plan, self.encoders, draft).fill(rows)  # type: ignore[arg-type] # it asks a draft for columns alone
        finally:
            torch.set_num_threads(before)
        rows.save_all()
        return draft

    def _check_files(self, reader: Reader) -> None:
        """Raise ConfigError where files alone say that an encoder is not the cache's, before a library is loaded."""
        every = encoder_settings.recipes(reader.manifest)
        for role, part in {KINDS[part].role: part for part in self.parts[::-1]}.items():
            own = of_files.recipe(self.config, role) if role else {}
            held = every[role] if role else {}
            if differing := list(recipes(own, {name: held[name] for name in own if name in held})):
                raise ConfigError(_told(reader, part, differing))

    def _check(self, reader: Reader) -> None:
        """Raise ConfigError where a part would be made otherwise than the cache's."""
        described = "description" in reader.manifest.parts.get(PartName("entity.joint"), NO_PART).columns
        stand_ins = Entity("0", "a", description="b" if described else ""), Mention("0", "0", "a", "a", 0, 1, None, 0)
        plan = self._plan([stand_ins[0]], [stand_ins[1]])
        for part in self.parts:
            own, held = plan.parts[part].manifest_entry, reader.manifest.parts[part]
            if differing := [*_differences(own, held)]:
                raise ConfigError(_told(reader, part, differing))


class Drafted:
    """Columns of parts that were made in memory, rounded as a cache stores them."""

    def __init__(self) -> None:
        self._shards: dict[PartName, Shard] = {}

    def save(self, shard: Shard) -> None:
        """Keep a part whose rows are all made."""
        shard.check_whole()
        self._shards[shard.plan.part.name] = shard

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows (n,) of a column."""
        part, column = ColumnName(name).apart()
        return self._shards[part].get(column, rows)

    def column(self, name: str) -> np.ndarray:
        """Return a column (n, ...), vectors that are stored as codes as float32."""
        return self.rows(name, np.arange(self._shards[ColumnName(name).part].plan.rows))

    def pictures(self, table: str) -> list[str]:
        """Return of each row what became of its picture."""
        return [IMAGE_STATUS[code] for code in self.column(f"{table}.ids.image_status")]


def _with_inputs(parts: Collection[PartName]) -> list[PartName]:
    """Return parts and what they derive from, in the order in which they are made."""
    found, new = set(), set(parts)
    while new:
        found |= new
        new = {PartName(name) for part in new for name in KINDS[part].inputs} - found
    pointers = {name for name, part in KINDS.items() if part.into in {part.table for part in found}}
    return [name for name in KINDS if name in found | pointers and KINDS[name].reads != ("release",)]


def _differences(own: PartEntry, held: PartEntry) -> list[tuple[str, Any, Any]]:
    """Return what of two recipes differs; columns follow from the rest, where that differs."""
    found = list(recipes(own.recipe, held.recipe))
    return [change for change in found if not change[0].startswith("columns.")] or found


def _told(reader: Reader, part: PartName, differing: list[tuple[str, Any, Any]]) -> str:
    """Return what differs, and what to do: an encoder that is not the cache's, or a cache of another melcache."""
    field, own, held = next((change for change in differing if change[0].endswith(WEIGHTS)), differing[0])
    name = field.rpartition(".")[2]
    if ABSENT in (own, held):
        knows, lacks = ("this version", "the cache") if held == ABSENT else ("the cache", "this version")
        return printable(
            f"{reader.path} was made by another version of melcache: of {part}, {knows} says {_word(name)}, which "
            f"{lacks} does not know. What is encoded now would not fit it: extract it again, and train on that"
        )
    more = f" ({len(differing) - 1} more differ)" if len(differing) > 1 else ""
    role = KINDS[part].role
    option = OPTIONS[role] if role else "text"
    return printable(
        f"{reader.path}: {part} was made with {_word(name)} {_short(held)}, and here it would be {_short(own)}{more}. "
        f"Give the encoder that it was made with: --encoder {option}=NAME or FOLDER, --encoder-weights "
        f"{option}=FOLDER, or --weights"
    )


def _word(field: str) -> str:
    """Return how people call a field of a recipe."""
    return WORDS.get(field, f"the setting '{field}'")


def _short(value: Any) -> str:
    text = value[:12] if isinstance(value, str) and DIGEST.fullmatch(value) else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
