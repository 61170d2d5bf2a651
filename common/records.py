"""The records that every dataset adapter produces, whatever its release looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RELEASES = ("demo", "jsonl", "mimic", "richpedia", "wikidiverse", "wikimel")  # that extraction has adapters for
SPLITS = ("train", "valid", "test")  # bit i of a mention's `splits` mask is SPLITS[i]


@dataclass(frozen=True, slots=True)
class Image:
    """One picture that a release names.

    `path` is where it lies (it need not exist). None: the release names a picture that can never be
    found here, and `reason` says why in one word.
    """

    path: Path | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of the knowledge base.  `text` is its description, "" where the release has none."""

    id: str
    name: str
    text: str = ""
    image: Image | None = None
    description: str = ""  # a second, longer text (Wikipedia's, for DWE+), from the release or --descriptions


@dataclass(frozen=True, slots=True)
class Face:
    """What DeepFace says of one face: years, and its words for the rest; "" for what it was not asked."""

    age: float
    emotion: str
    gender: str = ""
    race: str = ""


@dataclass(frozen=True, slots=True)
class Mention:
    """One mention in its sentence.

    `start`, `end` are character offsets into `sentence` (half open); both -1 when the mention does not stand
    there. `gold` is an entity id, None for nil, and None where the mention is not `labeled`: the release does not
    say what it means, so it counts in no accuracy. `candidates` are entity ids in the release's order, None
    where the release has no lists. `splits` is a bit mask over SPLITS, because some ids stand in two. `faces` are
    those in its picture, from --faces; None where that was not given.
    """

    id: str
    caption: str
    sentence: str
    surface: str
    start: int
    end: int
    gold: str | None
    splits: int
    image: Image | None = None
    candidates: tuple[str, ...] | None = None
    type: str = ""
    faces: tuple[Face, ...] | None = None
    labeled: bool = True


@dataclass(slots=True)
class Dataset:
    """A whole release as records.  Entities may be made whenever they are asked for (extract.reading.entity_columns).

    `counts` are the adapter's own findings (`spans not found`, `gold is nil`, ...), printed in the coverage
    table; `licence` and `source` travel with every cache made from it, and `warnings`, which every output of such a
    cache repeats. `doubts` are probable mistakes, with file and line: said, and with --strict an error. `aliases` are
    other names of some entities by id, from --aliases; some of these ids may be of none.
    """

    name: str
    mentions: list[Mention]
    entities: Sequence[Entity]
    licence: str = "unknown"
    source: str = "unknown"
    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def split_mask(*names: str) -> int:
    """Return the bit mask of the named splits.  Raises ValueError for an unknown name."""
    return sum(1 << SPLITS.index(name) for name in set(names))
