"""Every knob of linking, once; the command line and the Python API derive from it.  No torch here."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from common.errors import ConfigError
from common.options import knob

ENCODERS, LISTED = "Encoders", "Answers"


@dataclass(frozen=True)
class LoadConfig:
    """What a linker is loaded with."""

    run: Path = knob(MISSING, "folder of a finished run")
    entities: Path | None = knob(None, "entities that are new: JSON lines as entities.jsonl")
    release: Path | None = knob(
        None, "folder of the release, for descriptions and pictures of entities (default: data/<dataset>)"
    )
    model: str | None = knob(None, "FILE.py of the run's head, where that is your own")
    aliases: Path | None = knob(None, "the file of --aliases that the run's cache was made with, where it was")
    seed: str = knob("mean", "one of the run's seeds, or mean: the mean of the scores of all", panel=LISTED)
    encoder: list[str] = knob(
        (),
        "text=NAME, image=, joint= or detector=: the encoder of the run's cache, where it was named; repeat it",
        metavar="ROLE=NAME",
        panel=ENCODERS,
    )
    encoder_weights: list[str] = knob(
        (),
        "text=FOLDER, ...: where its weights are, as --text-weights of extract",
        metavar="ROLE=FOLDER",
        panel=ENCODERS,
    )
    weights: str | None = knob(
        None,
        "a folder of weight files, or pretrained (default: random ones where the cache has such, else pretrained)",
        panel=ENCODERS,
    )
    index: Literal["exact", "faiss"] = knob(
        "exact", "what searches vectors for candidates; faiss (an extra) may miss some: how many is said", panel=LISTED
    )
    device: str = knob("auto", "cpu, cuda or auto", panel=ENCODERS)
    dataset: str | None = knob(None, "the run's cache, if it is not where it was", panel=ENCODERS)
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was", panel=ENCODERS)


@dataclass(frozen=True)
class LinkConfig(LoadConfig):
    """What `melcache link` does."""

    text: str | None = knob(None, "a sentence; with --mention, and --image where there is a picture")
    mention: str | None = knob(None, "the string in the sentence that is linked")
    start: int | None = knob(None, "the character where it begins, where the sentence has it twice")
    image: Path | None = knob(None, "its picture")
    data: Path | None = knob(None, "many mentions: JSON lines as mentions.jsonl of docs/guides/your-data.md")
    top: int = knob(10, "candidates that are shown, best first; 0: all", panel=LISTED)
    nil_below: float = knob(0.0, "abstain (nil) where the best candidate is less probable than this", panel=LISTED)
    json: bool = knob(False, "print JSON instead of a table", panel=LISTED)

    def __post_init__(self) -> None:
        if self.top < 0:
            raise ConfigError(f"--top is {self.top}; it must not be negative")
        if not 0 <= self.nil_below <= 1:
            raise ConfigError(f"--nil-below is {self.nil_below}; it is a probability, 0 to 1")
