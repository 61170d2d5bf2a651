"""Options of commands that look into a cache or a finished run: doctor, slices and explain."""

from dataclasses import MISSING, dataclass
from pathlib import Path

from common.errors import ConfigError
from common.options import knob
from common.paths import SHARDS

SLICINGS = ("matches", "release", "surface", "name", "gold", "type", "picture")


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
class ExplainConfig:
    """What `melcache explain` shows."""

    run: Path = knob(MISSING, "folder of a finished run of drin")
    mention: str = knob(MISSING, "id of a mention, as the release writes it")
    seed: int | None = knob(None, "which of the run's seeds (default: its first)")
    dataset: str | None = knob(None, "the run's cache, if it is not where it was")
    shards: Path | None = knob(None, "folder that holds caches, if it is not where it was")
    json: bool = knob(False, "print JSON instead of a table")
