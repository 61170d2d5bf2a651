"""Every knob of training, once; the command line, the checkpoint and results.json derive from it.  No torch here."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from cache.schema import EDGES
from common.errors import ConfigError
from common.options import knob
from common.paths import RUNS, SHARDS

KS = (1, 3, 5, 10, 20)  # of every Top-k

HEADS = ("lexical", "prior", "clip", "bert", "jmel", "clip_linear", "drin")
Protocol = Literal["retrieved", "given"]
Activation = Literal["gelu", "relu", "tanh", "sigmoid", "identity"]
Resident = Literal["auto", "device", "host", "mmap"]
Precision = Literal["auto", "float32", "tf32", "bfloat16"]
Together = Literal["auto", "yes", "no"]
LOWER_IS_BETTER = ("mean_rank",)
FIXED = ("select", "protocol")  # what a search keeps: trials must be comparable
SELECTABLE = (*(f"top{k}" for k in KS), "mrr", "mean_rank")
DECISIVE = (
    "epochs",
    "batch",
    "learning_rate",
    "select",
    "patience",
    "precision",
    "protocol",
    "with_lexical",
)  # what a result depends on


@dataclass(frozen=True)
class TrainConfig:
    """What `python -m train` does, whatever the head."""

    dataset: str = knob("demo", "name of a cache under --shards, or a path to one")
    model: str = knob("drin", f"the head: {', '.join(HEADS)}")
    epochs: int = knob(30, "passes over the train split (DRIN 4.4)")
    seeds: tuple[int, ...] = knob((0,), "comma-separated; each gives its own initial weights and order")
    shards: Path = knob(SHARDS, "folder that holds caches")
    run: Path | None = knob(
        None,
        "folder for results.json and checkpoints (default: runs/<dataset>-<model>)",
        also=("--run-folder",),  # torchrun takes a --run for its own
    )
    protocol: Protocol = knob(
        "retrieved",
        "mentions that count: all (a gold not retrieved is a miss), or given: those with gold in their list",
    )
    with_lexical: bool = knob(False, "add the string score, with a learned weight, to the head's")
    device: str = knob("auto", "cpu, cuda or auto")
    fresh: bool = knob(False, "train everything anew; without it what is finished or half done is kept")
    batch: int = knob(64, "mentions per step (DRIN 4.4)", panel="Optimization")
    learning_rate: float = knob(1e-3, "of Adam (DRIN 4.4)", panel="Optimization")
    select: str = knob(
        "top1", "valid metric that picks the epoch: top1 ... top20, mrr, mean_rank", panel="Optimization"
    )
    patience: int = knob(0, "stop after so many epochs without a better one, 0 = never", panel="Optimization")
    resident: Resident = knob("auto", "where the features lie: auto takes the first that fits", panel="Machine")
    precision: Precision = knob("auto", "of training; auto: tf32 on CUDA, else float32", panel="Machine")
    together: Together = knob("auto", "train all seeds in one pass; auto: on CUDA, if memory allows", panel="Machine")
    threads: int = knob(0, "of the CPU, 0 = the cores that this process may use", panel="Machine")
    tensorboard: bool = knob(False, "also write curves for TensorBoard into the run folder", panel="Machine")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or not all(0 <= s < 1 << 63 for s in self.seeds):
            raise ConfigError(f"--seeds {','.join(map(str, self.seeds))}: one or more different numbers from 0 on")
        if self.select not in SELECTABLE:
            raise ConfigError(f"--select {self.select}: choose from {', '.join(SELECTABLE)}")
        if min(self.patience, self.threads) < 0:
            raise ConfigError(f"--patience {self.patience} and --threads {self.threads} must not be negative")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"--learning-rate is {self.learning_rate:g}; it must be positive")

    @property
    def folder(self) -> Path:
        """The directory of the run."""
        return self.run or RUNS / f"{Path(self.dataset).name}-{self.model}"


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """What `python -m train sweep` does: everything a run does, with some knobs varied."""

    vary: list[str] = knob(
        (),
        "KNOB=A,B,C for choices (edges=text_to_text,text_to_text+image_to_image), KNOB=LOW..HIGH for a range, "
        f"KNOB=log:LOW..HIGH; repeat it. KNOB: {', '.join(sorted(set(DECISIVE) - set(FIXED)))} or a head's option",
        panel="Search",
    )
    sampler: Literal["tpe", "random", "grid"] = knob("tpe", "grid: every combination of choices", panel="Search")
    trials: int = knob(20, "runs in all, those finished before included; a grid stops when it is full", panel="Search")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trials < 1:
            raise ConfigError(f"--trials is {self.trials}; it must be at least 1")

    @property
    def folder(self) -> Path:
        """The directory of the search."""
        return self.run or RUNS / f"{Path(self.dataset).name}-{self.model}-sweep"


@dataclass(frozen=True)
class DoctorConfig:
    """What `python -m train doctor` examines."""

    dataset: str = knob("demo", "name of a cache under --shards, or a path to one")
    shards: Path = knob(SHARDS, "folder that holds caches")
    json: bool = knob(False, "print JSON instead of a table")


@dataclass(frozen=True)
class ExplainConfig:
    """What `python -m train explain` shows."""

    run: Path = knob(MISSING, "folder of a finished run of drin")
    mention: str = knob(MISSING, "id of a mention, as the release writes it")
    seed: int | None = knob(None, "which of the run's seeds (default: its first)")
    dataset: str | None = knob(None, "the run's cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")
    json: bool = knob(False, "print JSON instead of a table")


@dataclass(frozen=True)
class DrinConfig:
    """DRIN as in the paper; widths are the cache's.  Where the paper is silent, the choice is a switch."""

    text_width: int = 768
    image_width: int = 2048
    width: int = knob(768, "D, hidden width (DRIN 4.4)", panel="drin")
    layers: int = knob(2, "L, graph convolutions (DRIN 4.4)", panel="drin")
    edges: tuple[str, ...] = knob(EDGES, f"relations kept (DRIN Table 3), of {','.join(EDGES)}", panel="drin")
    edge_from: Literal["next", "current"] = knob("next", "vertices that Eq. 13 reads", panel="drin")
    edge_residual: Literal["outside", "inside"] = knob("outside", "where Eq. 13 adds A", panel="drin")
    tied: bool = knob(False, "one matrix for W_1 and W_2", panel="drin")
    static: bool = knob(False, "edges stay as they were extracted: no Eq. 13 (DRIN Table 3)", panel="drin")
    vertex_activation: Activation = knob("gelu", "sigma of Eq. 12", panel="drin")
    edge_activation: Activation = knob("sigmoid", "sigma of Eq. 13", panel="drin")
    margin: float = knob(0.25, "of the ranking loss (DRIN 4.4)", panel="drin")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ConfigError(f"--layers {self.layers} and --width {self.width} must be at least 1")
        _check_margin(self.margin)
        unknown = sorted(set(self.edges) - set(EDGES))
        if unknown or not self.edges:
            raise ConfigError(f"--edges {','.join(self.edges) or '(none)'}: choose from {', '.join(EDGES)}")


@dataclass(frozen=True)
class JointConfig:
    """bert, jmel and clip_linear; widths are the cache's."""

    head: str = "bert"
    text_width: int = 768
    image_width: int = 2048
    clip_width: int = 512
    width: int = knob(768, "D, width of a modality in the joint space", panel="bert, jmel, clip_linear")
    objective: Literal["auto", "margin", "contrastive"] = knob(
        "auto", "loss; auto: contrastive for jmel, else margin", panel="bert, jmel, clip_linear"
    )
    margin: float = knob(0.25, "of the ranking loss (DRIN 4.4)", panel="bert, jmel, clip_linear")
    temperature: float = knob(0.1, "of the contrastive loss", panel="bert, jmel, clip_linear")

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"--width {self.width} must be at least 1")
        _check_margin(self.margin)
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"--temperature is {self.temperature:g}; it must be positive")

    def width_of(self, column: str) -> int:
        """Return the width of a feature column."""
        part = column.split(".")[1]
        return {"bert": self.text_width, "resnet": self.image_width, "clip": self.clip_width}[part]


def _check_margin(margin: float) -> None:
    if not 0 <= margin < float("inf"):
        raise ConfigError(f"--margin is {margin:g}; it must be 0 or more")


HEAD_CONFIGS = {"drin": DrinConfig, "bert": JointConfig, "jmel": JointConfig, "clip_linear": JointConfig}
