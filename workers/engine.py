"""Where workers run, as a person writes it: `local:4`, `slurm:8`, `ray`."""

import re
from dataclasses import dataclass
from typing import Self

from common.errors import ConfigError
from workers import slurm_options

EXPECTED = "expected local:N, slurm:N, ray, ray:N or ray:ADDRESS, such as local:4 or ray:head-node:6379"
# help of the options that a command with workers has
WORKERS_ON = (
    "who divides the work: local:N, N processes on this machine, one for each GPU where there are several; slurm:N, an "
    "array job; ray, ray:N or ray:ADDRESS, a worker for each GPU or node of a Ray cluster"
)
SLURM = "with slurm:N: options of sbatch, 'partition=gpu gpus=1 time=4:00:00 cpus-per-task=8', or @FILE with one a line"
WAIT = "with slurm:N: wait for the jobs, and show how far they are"


@dataclass(frozen=True)
class Engine:
    """What starts `count` workers; 0: as many as the cluster has GPUs, or nodes.

    `address` is that of a Ray cluster, "" for the one of this machine. `options` are sbatch's; `wait` for its jobs.
    """

    kind: str
    count: int
    address: str = ""
    options: tuple[tuple[str, str], ...] = ()
    wait: bool = False

    @classmethod
    def of(cls, workers_on: str | None, slurm: str = "", wait: bool = False, also: str = "") -> Self | None:
        """Return the engine that --workers-on, --slurm and --wait name, None for none.

        Raises ConfigError, which names what the option takes `also`.
        """
        found = None if workers_on is None else cls._named(workers_on, also)
        if (slurm or wait) and (found is None or found.kind != "slurm"):
            raise ConfigError(f"--{'slurm' if slurm else 'wait'} is for jobs of Slurm: add --workers-on slurm:N")
        if found is None or found.kind != "slurm":
            return found
        return cls("slurm", found.count, options=slurm_options.parse(slurm), wait=wait)

    @classmethod
    def _named(cls, text: str, also: str) -> Self:
        kind, _, rest = text.partition(":")
        if kind in ("local", "slurm", "ray") and re.fullmatch(r"[1-9][0-9]{0,2}", rest):
            return cls(kind, int(rest))
        if text == "ray":
            return cls(kind, 0)
        if kind == "ray" and re.fullmatch(r"(ray://)?[A-Za-z0-9_.:\[\]-]*[A-Za-z_.:\[\]-][A-Za-z0-9_.:\[\]-]*", rest):
            return cls(kind, 0, rest)
        raise ConfigError(f"--workers-on {text}: {EXPECTED}{also and f'; or {also}'}")
