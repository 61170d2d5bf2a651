"""Every knob of `melcache report`.  No torch here."""

from dataclasses import MISSING, dataclass
from pathlib import Path

from common.errors import ConfigError
from common.options import knob
from common.records import RELEASES
from common.words import one_of

MOST_RUNS = 4  # colors and columns that are told apart at a glance


@dataclass(frozen=True)
class ReportConfig:
    """What `melcache report` makes."""

    run: list[Path] = knob(MISSING, "folder of a finished run; again for another one, to see both side by side")
    out: Path | None = knob(None, "folder to write (default: report/ in the first run's folder)")
    release: Path | None = knob(
        None, "folder of the release, for sentences and pictures, which a cache does not hold (default: data/<dataset>)"
    )
    adapter: str | None = knob(
        None, f"how the release is read: {', '.join(RELEASES)} (default: as the cache is named, else jsonl)"
    )
    thumbnails: bool = knob(True, "small copies of the pictures, where the release is there; mind its licence")
    seed: str = knob("mean", "whose answers are shown: one of the run's seeds, or mean: the mean of the scores of all")
    top: int = knob(5, "candidates shown of each mention and run, gold beside them")
    model: str | None = knob(None, "FILE.py of the runs' head, if that is one of your own and must score again")
    device: str = knob("auto", "cpu, cuda or auto")
    dataset: str | None = knob(None, "the runs' cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")

    def __post_init__(self) -> None:
        if not 1 <= len(self.run) <= MOST_RUNS:
            raise ConfigError(f"--run is given {len(self.run)} times; a report shows 1 to {MOST_RUNS} runs")
        if len({folder.absolute() for folder in self.run}) < len(self.run):
            raise ConfigError("--run names one folder twice: leave one out")
        if self.adapter is not None and self.adapter not in RELEASES:
            raise ConfigError(f"--adapter {self.adapter}: choose from {one_of(self.adapter, RELEASES)}")
        if not 1 <= self.top <= 50:
            raise ConfigError(f"--top is {self.top}; it must be 1 to 50")

    @property
    def folder(self) -> Path:
        """The directory of the report."""
        return self.out or self.run[0] / "report"
