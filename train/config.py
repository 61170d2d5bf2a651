"""Every knob of training, once; the command line, the checkpoint and results.json derive from it.  No torch here."""

from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from common.errors import ConfigError
from common.options import knob
from common.paths import RUNS, SHARDS
from common.words import one_of
from train.checks import check_at_least_one, check_not_negative, check_positive, share_of
from train.data.resident import Resident
from train.heads import presets
from train.heads.registry import HEADS

KS = (1, 3, 5, 10, 20)  # of every Top-k
PROTOCOLS = {
    "retrieved": "A retrieved",
    "injected": "B injected",
    "whole-kb": "C whole-kb",
    "given": "D given",
}  # as results.json and tables name them
Precision = Literal["auto", "float32", "tf32", "bfloat16"]
Together = Literal["auto", "yes", "no"]
Objective = Literal["own", "margin", "listwise", "in-batch"]
OBJECTIVES = get_args(Objective)
Config = TypeVar("Config", bound="TrainConfig")
LOWER_IS_BETTER = ("mean_rank",)
SLICINGS = ("matches", "release", "surface", "name", "gold", "type", "picture")
FIXED = ("select", "protocol", "rerank", "select_among", "valid_from")  # what a search keeps: trials must be comparable
SELECTABLE = (*(f"top{k}" for k in KS), "mrr", "mean_rank")


def _by_head(text: str, name: str) -> str:
    """Return the help of a knob whose default is the head's (heads.presets)."""
    return f"{text} ({presets.told(name)})"


@dataclass(frozen=True)
class TrainConfig:
    """What `melcache train` does, whatever the head; knobs that are None are as `resolved` decides.

    A run's identity is every knob that is not of the machine, and in words of their own: the head and its options (not
    `model`), the cache (not `dataset`), a file of results for each of the `seeds`.
    """

    dataset: str = knob("demo", "name of a cache under --shards, or a path to one", machine=True)
    model: str = knob("drin", f"the head: {', '.join(HEADS)}, or FILE.py with one of your own", machine=True)
    epochs: int | None = knob(None, _by_head("passes over the train split", "epochs"))
    seeds: tuple[int, ...] = knob((0,), "with commas; each gives its own initial weights and order", machine=True)
    shards: Path = knob(SHARDS, "folder that holds caches", machine=True)
    run: Path | None = knob(
        None,
        "folder for results.json and checkpoints (default: runs/<dataset>-<model>)",
        also=("--run-folder",),  # torchrun takes a --run for its own
        machine=True,
    )
    protocol: str = knob(
        "retrieved",
        "what gold is ranked among. retrieved: the list; injected: the list, gold put in where it is missing; "
        "whole-kb: all entities; given: the list, only of mentions with gold in it",
    )
    rerank: int = knob(
        0,
        "whole-kb: rank only so many entities, the best by alignment score; 0: all, or as many as a list holds where "
        "the head needs one",
    )
    valid_from: str | None = knob(
        None, "train:SHARE, such as train:0.1: hold whole captions out of train where the release has no valid split"
    )
    with_lexical: bool = knob(False, "add the string score, both weights learned, from the string matcher on")
    option: list[str] = knob(
        (),
        "of a head of your own; items of lists joined by +; repeatable",
        metavar="KNOB=VALUE",
        machine=True,
    )
    device: str = knob("auto", "cpu, cuda or auto", machine=True)
    fresh: bool = knob(False, "train anew, also what is finished or half done", machine=True)
    batch: int | None = knob(None, _by_head("mentions per step", "batch"), panel="Optimization")
    learning_rate: float | None = knob(None, _by_head("of Adam", "learning_rate"), panel="Optimization")
    weight_decay: float | None = knob(None, _by_head("decoupled, as in AdamW", "weight_decay"), panel="Optimization")
    warm_up: int | None = knob(None, _by_head("steps until the full learning rate", "warm_up"), panel="Optimization")
    decay: bool | None = knob(None, _by_head("lower the learning rate to 0", "decay"), panel="Optimization")
    clip_norm: float | None = knob(
        None, _by_head("largest norm of a gradient, 0 = any", "clip_norm"), panel="Optimization"
    )
    restart: int | None = knob(None, _by_head("epochs until Adam forgets; 0: never", "restart"), panel="Optimization")
    objective: Objective = knob(
        "own",
        "own: as the head's paper; margin: Eq. 17; listwise: softmax over the list; in-batch: and over other golds",
        panel="Optimization",
    )
    hardest: int = knob(
        0,
        "negatives that --objective takes; 0: all",
        panel="Optimization",
    )
    select: str = knob("top1", "what picks the epoch: top1 to top20, mrr, mean_rank", panel="Optimization")
    select_among: Literal["all", "list"] = knob(
        "all", "whole-kb: rank valid in all entities, as test, or in the lists", panel="Optimization"
    )
    patience: int = knob(0, "stop after so many worse epochs; 0: never", panel="Optimization")
    resident: Resident = knob("auto", "home of the features; auto: first that fits", panel="Machine", machine=True)
    precision: Precision = knob("auto", "auto: tf32 on CUDA, else float32", panel="Machine")
    together: Together = knob("auto", "seeds in one pass; auto: on CUDA, if they fit", panel="Machine", machine=True)
    threads: int = knob(0, "CPU threads, 0 = all usable cores", panel="Machine", machine=True)
    tensorboard: bool = knob(
        False, "also write curves for TensorBoard into the run folder", panel="Machine", machine=True
    )

    def __post_init__(self) -> None:
        check_not_negative(self, "weight_decay", "warm_up", "clip_norm", "restart")
        check_at_least_one(self, "epochs", "batch")
        check_positive(self, "learning_rate")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or not all(0 <= s < 1 << 63 for s in self.seeds):
            raise ConfigError(f"--seeds {','.join(map(str, self.seeds))}: one or more different numbers from 0 on")
        if self.select not in SELECTABLE:
            raise ConfigError(f"--select {self.select}: choose from {one_of(self.select, SELECTABLE)}")
        self._check_objective()
        self._check_protocol()
        if self.valid_from is not None:
            share_of(self.valid_from)
        if min(self.patience, self.threads) < 0:
            raise ConfigError(f"--patience {self.patience} and --threads {self.threads} must not be negative")

    def _check_objective(self) -> None:
        check_not_negative(self, "hardest")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"--objective {self.objective}: choose from {one_of(self.objective, OBJECTIVES)}")
        if self.hardest and self.objective == "own":
            raise ConfigError("--hardest is of the objectives margin, listwise and in-batch: add --objective")

    def _check_protocol(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"--protocol {self.protocol}: choose from {one_of(self.protocol, PROTOCOLS)}")
        check_not_negative(self, "rerank")
        if self.protocol != "whole-kb":
            for name in ("rerank", "select_among"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ConfigError(f"--{name.replace('_', '-')} is an option of --protocol whole-kb alone")
        elif self.with_lexical:
            raise ConfigError(
                "--with-lexical needs string scores, which entities outside the lists do not have: leave it out, or "
                "choose a --protocol other than whole-kb"
            )

    @property
    def folder(self) -> Path:
        """The directory of the run."""
        return self.run or RUNS / f"{Path(self.dataset).name}-{self.model}"


def resolved(config: Config) -> Config:
    """Return the config with the head's own defaults where nothing was given, and shares written in one way."""
    own = presets.of(config.model, config.dataset)
    chosen: dict[str, Any] = {name: value for name, value in own.items() if getattr(config, name) is None}
    if config.valid_from is not None:
        chosen["valid_from"] = f"train:{share_of(config.valid_from):.6f}".rstrip("0")
    return replace(config, **chosen)


def decisive(kind: type[TrainConfig]) -> tuple[str, ...]:
    """Return the knobs of a config that a result depends on: those that are not marked as the machine's."""
    return tuple(field.name for field in fields(kind) if not field.metadata.get("machine"))


DECISIVE = decisive(TrainConfig)


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """What `melcache sweep` does: everything a run does, with some knobs varied."""

    vary: list[str] = knob(
        (),
        "KNOB=A,B,C for choices (edges=text_to_text,text_to_text+image_to_image), KNOB=LOW..HIGH for a range, "
        f"KNOB=log:LOW..HIGH; repeat it. KNOB: {', '.join(sorted(set(DECISIVE) - set(FIXED)))} or a head's option",
        panel="Search",
    )
    sampler: Literal["tpe", "random", "grid"] = knob("tpe", "grid: every combination of choices", panel="Search")
    trials: int = knob(
        20, "number of runs, including those finished before; a grid stops when it is complete", panel="Search"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "trials")

    @property
    def folder(self) -> Path:
        """The directory of the search."""
        return self.run or RUNS / f"{Path(self.dataset).name}-{self.model}-sweep"


@dataclass(frozen=True)
class SeriesConfig(TrainConfig):
    """What `compare` and `ablate` have in common: several runs, each with the same options."""

    seeds: tuple[int, ...] = knob((0, 1, 2, 3, 4), "comma-separated; the papers average five runs")
    published: str | None = knob(
        None,
        "dataset whose published numbers are shown beside: wikimel, wikidiverse, richpedia (default: the "
        "dataset's name)",
    )


@dataclass(frozen=True)
class CompareConfig(SeriesConfig):
    """What `melcache compare` does: the same run for each of several heads."""

    model: str = ""  # each run has its own
    datasets: tuple[str, ...] = knob(
        (),
        "comma-separated caches of one release by different encoders, in place of --dataset: encoder by head in one "
        "table, differences from the first",
    )
    models: tuple[str, ...] = knob((), "comma-separated heads, or FILE.py (default: all that the cache can feed)")
    baseline: str | None = knob(
        None,
        "the head that the others are compared with, mention by mention (default: lexical; under whole-kb, where that "
        "ranks its list alone, the first head that ranks the same entities as most others)",
    )
    run: Path | None = knob(
        None,
        "folder of the runs and of compare.json (default: runs/<dataset>-compare; with --datasets "
        "runs/<first>+<second>-compare, and a folder for each in it)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [Path(dataset).name for dataset in self.datasets]
        if len(names) == 1 or len(set(names)) < len(names) or "" in names:
            raise ConfigError(
                f"--datasets {','.join(self.datasets)}: two or more caches, each of another name; one alone: --dataset"
            )

    @property
    def folder(self) -> Path:
        """The directory of the comparison."""
        named = "+".join(Path(dataset).name for dataset in self.datasets or (self.dataset,))
        return self.run or RUNS / f"{named}-compare"


@dataclass(frozen=True)
class AblateConfig(SeriesConfig):
    """What `melcache ablate` does: a head, and the same head without each of its parts."""

    run: Path | None = knob(None, "folder of the runs and of ablate.json (default: runs/<dataset>-<model>-ablate)")

    @property
    def folder(self) -> Path:
        """The directory of the ablation."""
        return self.run or RUNS / f"{Path(self.dataset).name}-{self.model}-ablate"


@dataclass(frozen=True)
class CostsConfig:
    """What `melcache costs` counts."""

    dataset: str = knob("demo", "name of a cache under --shards, or a path to one")
    shards: Path = knob(SHARDS, "folder that holds caches")
    json: bool = knob(False, "print JSON instead of a table")


@dataclass(frozen=True)
class DoctorConfig:
    """What `melcache doctor` examines."""

    dataset: str = knob("demo", "name of a cache under --shards, or a path to one")
    shards: Path = knob(SHARDS, "folder that holds caches")
    json: bool = knob(False, "print JSON instead of a table")


@dataclass(frozen=True)
class SlicesConfig:
    """What `melcache slices` shows."""

    run: Path = knob(MISSING, "folder of a finished run")
    by: tuple[str, ...] = knob(SLICINGS, f"slicings, of {','.join(SLICINGS)}")
    dataset: str | None = knob(None, "the run's cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")
    json: bool = knob(False, "print JSON instead of tables")

    def __post_init__(self) -> None:
        if not self.by or set(self.by) - set(SLICINGS):
            raise ConfigError(f"--by {','.join(self.by) or '(none)'}: choose from {', '.join(SLICINGS)}")


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


@dataclass(frozen=True)
class ExplainConfig:
    """What `melcache explain` shows."""

    run: Path = knob(MISSING, "folder of a finished run of drin")
    mention: str = knob(MISSING, "id of a mention, as the release writes it")
    seed: int | None = knob(None, "which of the run's seeds (default: its first)")
    dataset: str | None = knob(None, "the run's cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")
    json: bool = knob(False, "print JSON instead of a table")
