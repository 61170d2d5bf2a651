"""What a linker is asked and what it answers.  No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NewMention:
    """A mention to link.

    `text` is the sentence, `mention` the string in it; `start` and `end` say where, in characters (half open), needed
    only where the string stands there twice. `image` is a picture: a path, or the bytes of its file. `candidates` are
    ids of entities to rank; without them entities are retrieved by name. `id` names the mention in what is written.
    """

    text: str
    mention: str = ""
    start: int | None = None
    end: int | None = None
    image: Path | str | bytes | None = None
    candidates: tuple[str, ...] | None = None
    id: str | None = None


@dataclass(frozen=True)
class EntityCard:
    """An entity: `description` and `picture` are those of the release, None where it does not lie here or has none.

    `new` says that it came with --entities.
    """

    id: str
    name: str
    description: str | None = None
    picture: Path | None = None
    new: bool = False


@dataclass(frozen=True)
class Candidate:
    """An entity as an answer: the head's `score`, its `probability` among the candidates, and `evidence`.

    `evidence` holds "string" (the score of the names' similarity, 0 to 1) and, of DRIN's four edges
    (text_to_text, text_to_image, image_to_text, image_to_image, the mention's side first), those that the columns of
    the head allow, None where a picture is missing.
    """

    entity: EntityCard
    score: float
    probability: float
    evidence: Mapping[str, float | None]

    @property
    def id(self) -> str:
        """The entity's id."""
        return self.entity.id

    @property
    def name(self) -> str:
        """The entity's name."""
        return self.entity.name


@dataclass(frozen=True)
class Link:
    """The answer to a mention: its span, and the best candidates, best first.

    `nil`: the best one is less probable than asked for, or there is none. `picture` says what became of the picture
    (cache.kinds.IMAGE_STATUS: "ok", "none", "corrupt", ...); one that is not "ok" counts as none. `known` is the id of
    the dataset's mention with the same text and picture, whose vectors were taken, None where it was encoded.
    """

    mention: NewMention
    surface: str
    start: int
    end: int
    candidates: tuple[Candidate, ...]
    nil: bool
    picture: str
    known: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as `melcache link --json` prints it."""
        return {
            "mention": self.surface if self.mention.id is None else self.mention.id,
            "text": self.mention.text,
            "surface": self.surface,
            "start": self.start,
            "end": self.end,
            "nil": self.nil,
            "picture": self.picture,
            "known": self.known,
            "candidates": [
                {
                    "id": found.id,
                    "name": found.name,
                    "score": found.score,
                    "probability": found.probability,
                    "description": found.entity.description,
                    "picture": None if found.entity.picture is None else str(found.entity.picture),
                    "new": found.entity.new,
                    "evidence": dict(found.evidence),
                }
                for found in self.candidates
            ],
        }
