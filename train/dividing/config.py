"""The knob of commands whose runs several workers can train.  No torch here.

It is no knob of the runs, whose identity covers the code of train/config/__init__.py.
"""

from dataclasses import dataclass

from common.options import knob
from workers.engine import SLURM, WAIT, WORKERS_ON, Engine

OTHERS = "others"


@dataclass(frozen=True)
class WorkersConfig:
    """Who trains what is left of several runs."""

    workers_on: str | None = knob(
        None,
        f"{WORKERS_ON}. {OTHERS}: be one of several that you start yourself, on machines that share the folder",
        panel="Machine",
    )
    slurm: str = knob("", SLURM, panel="Machine")
    wait: bool = knob(False, WAIT, panel="Machine")

    def __post_init__(self) -> None:
        _ = self.engine  # refuses what is none

    @property
    def one_of_many(self) -> bool:
        """Whether this process is a worker that others have started."""
        return self.workers_on == OTHERS

    @property
    def engine(self) -> Engine | None:
        """What starts the workers; None where there are none, or others start them.  Raises ConfigError."""
        return Engine.of(None if self.one_of_many else self.workers_on, self.slurm, self.wait, OTHERS)
