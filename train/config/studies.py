"""Options of commands that make several runs, or count what one costs: sweep, compare, ablate and costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import ConfigError
from common.options import knob
from common.paths import RUNS, SHARDS
from train.checks import check_at_least_one
from train.config import DECISIVE, TrainConfig

FIXED = ("select", "protocol", "rerank", "select_among", "valid_from")  # what a search keeps: trials must be comparable


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
