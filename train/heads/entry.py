"""All that melcache knows of one head by name.  No torch here."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cache import Reader
from common.errors import ConfigError
from common.records import SPLITS
from train.heads.head_config import HeadConfig

if TYPE_CHECKING:
    from train.heads.base import Head

Trained = Literal["frozen", "tuned", "LLM", "unknown"]
Values = Mapping[str, tuple[float, ...]]  # dataset: numbers in percent


@dataclass(frozen=True)
class Row:
    """What a source says of a system, in the order of the source's metrics, and deviations over runs.

    `source` is a letter of studies.published_rows.SOURCES; what it does not state is "unknown", never guessed.
    `selected` and `ties` are the row's own where its code says them and the source's table is of several codes.
    """

    system: str
    source: str
    trained: Trained
    values: Values
    deviations: Values = field(default_factory=dict)
    selected: str | None = None
    ties: str | None = None


@dataclass(frozen=True)
class Ablations:
    """What `ablate` trains: what the full head takes beside its defaults, and what each variant changes of that.

    `test` and `valid` are the published rows of variants, "full" among them; the variants `alone` are systems of the
    head's own published rows. `layered` are those that differ in `layers` alone, shown on valid and test.
    """

    full: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    test: Mapping[str, Row] = field(default_factory=dict)
    valid: Mapping[str, Row] = field(default_factory=dict)
    alone: tuple[str, ...] = ()
    layered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What a paper estimates of a head's operations per mention: in words, and of its config and C candidates."""

    told: str
    operations: Callable[[Any, int], int]


@dataclass(frozen=True)
class Entry:
    """One head: its options (none: it has no weights), its network, the columns it reads, the splits it needs.

    `network` is "module:class", imported when it is asked for. `defaults` are knobs of training as its authors set
    them, `on_dataset` those for a cache of this name. `file` is where a head of a user's own stands.
    """

    name: str
    config: type[HeadConfig] | None
    network: str
    reads: tuple[str, ...]
    needs: tuple[str, ...] = SPLITS
    defaults: Mapping[str, Any] = field(default_factory=dict)
    on_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: tuple[Row, ...] = ()
    ablations: Ablations | None = None
    estimate: Estimate | None = None
    file: Path | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        return tuple(option.name for option in fields(self.config)) if self.config else ()

    def model(self) -> "type[Head]":
        """Return the class of its network.  Imports torch.  Raises ConfigError for one of a file that is no Head."""
        from train.heads.base import Head

        module, _, name = self.network.partition(":")
        found: type[Head] = getattr(import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, Head)):
            raise ConfigError(f"{self.file}: {name} must be a class that derives from train.heads.base.Head")
        return found

    def files(self) -> list[Path]:
        """Return the files of a head of a user's own, which decide its numbers: its own, and its network's."""
        return [] if self.file is None else list(dict.fromkeys([self.file, Path(inspect.getfile(self.model()))]))

    def require(self, reader: Reader, head: HeadConfig | None) -> tuple[str, ...]:
        """Return the columns that it reads with these options.  Raises CacheError naming those that a cache lacks."""
        return reader.require(self.name, head.more if head else (), self.reads)
