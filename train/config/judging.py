"""Options of commands that write predictions and judge them: predict and evaluate."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from common.errors import ConfigError
from common.options import knob
from common.paths import SHARDS
from train.checks import check_not_negative


@dataclass(frozen=True)
class EvaluateConfig:
    """What `melcache evaluate` judges."""

    predictions: Path | None = knob(
        None, "file of predictions: JSON lines, as `melcache predict` writes them, or a TREC run"
    )
    dataset: str = knob("demo", "name of a cache under --shards, or a path to one, which has the mentions and golds")
    shards: Path = knob(SHARDS, "folder that holds caches")
    protocol: Literal["A", "B", "C", "D"] = knob(
        "A",
        "what gold is ranked among. A: the system's own lists; B: its lists, each of which must hold gold; C: all "
        "entities, of which a list is the top; D: as A, over the mentions whose gold the cache's own list holds",
    )
    split: Literal["train", "valid", "test"] = knob("test", "whose mentions are judged")
    lists_only: bool = knob(False, "C: count no rank of gold that a file states beyond its lists")
    against: Path | None = knob(
        None, "another file of predictions, or the folder of a run, from which paired differences are tested"
    )
    system: str | None = knob(None, "the system's name (default: as the file says)")
    selected_on: Literal["train", "valid", "test", "unknown"] | None = knob(
        None, "the split that the system was selected on (default: as the file says)"
    )
    qrels: Path | None = knob(None, "write the golds of the split to this file, as TREC has them")
    json: bool = knob(False, "print JSON instead of tables")
    tsv: bool = knob(False, "print a line of names and a line of numbers, apart by tabs")
    latex: bool = knob(False, "print a row of a LaTeX table")

    def __post_init__(self) -> None:
        if self.predictions is None and self.qrels is None:
            raise ConfigError(
                "nothing to do: give --predictions FILE, a system's answers, or --qrels FILE, to write golds"
            )
        if self.json + self.tsv + self.latex > 1:
            raise ConfigError("--json, --tsv and --latex exclude each other: choose one")


@dataclass(frozen=True)
class PredictConfig:
    """What `melcache predict` writes."""

    run: Path = knob(MISSING, "folder of a finished run")
    out: Path = knob(MISSING, "file to write")
    split: Literal["train", "valid", "test", "all"] = knob("test", "whose mentions, labeled or not")
    seed: str = knob("mean", "one of the run's seeds, or mean: the mean of the scores of all")
    top: int = knob(
        10, "candidates of a mention that are written, best first; 0: all, as `melcache evaluate` needs them"
    )
    format: Literal["jsonl", "trec", "csv", "parquet"] = knob("jsonl", "JSON lines, a TREC run, or a row a candidate")
    nil_below: float = knob(0.0, "abstain (nil) where the best candidate is less probable than this")
    release: Path | None = knob(
        None, "folder of the release, for the sentence of each mention, which a cache does not hold"
    )
    model: str | None = knob(None, "FILE.py of the run's head, if that is one of your own and must score again")
    device: str = knob("auto", "cpu, cuda or auto")
    dataset: str | None = knob(None, "the run's cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")
    json: bool = knob(False, "print JSON instead of a line")

    def __post_init__(self) -> None:
        check_not_negative(self, "top")
        if not 0 <= self.nil_below <= 1:
            raise ConfigError(f"--nil-below is {self.nil_below}; it is a probability, 0 to 1")
