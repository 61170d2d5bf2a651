"""Every knob of a run, once; the command line, the checkpoint and results.json derive from it.  No torch here."""

from dataclasses import dataclass, fields, replace
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
