"""Every knob of serving, once; the command line derives from it.  No torch and no web framework here."""

import dataclasses
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.options import knob
from link.config import LinkConfig

BOUNDS = "Bounds"
_LINK = {field.name: field for field in dataclasses.fields(LinkConfig)}


def _as_link(name: str) -> Any:
    """Return a knob that says what `melcache link` says of it."""
    return dataclasses.field(default=_LINK[name].default, metadata=_LINK[name].metadata)


@dataclass(frozen=True)
class ServeConfig:
    """What `melcache serve` does."""

    run: Path = knob(MISSING, "folder of a finished run")
    host: str = knob(
        "127.0.0.1", "address to listen on; one that is not of this machine alone lets anyone in who reaches it"
    )
    port: int = knob(8000, "port to listen on; 0: a free one")
    entities: Path | None = _as_link("entities")
    release: Path | None = _as_link("release")
    seed: str = _as_link("seed")
    encoder: list[str] = _as_link("encoder")
    encoder_weights: list[str] = _as_link("encoder_weights")
    weights: str | None = _as_link("weights")
    device: str = _as_link("device")
    dataset: str | None = _as_link("dataset")
    shards: Path | None = _as_link("shards")
    max_request: int = knob(20, "megabytes of a request at most, its pictures with it", panel=BOUNDS)
    max_mentions: int = knob(64, "mentions of a request at most, and of one address that wait at once", panel=BOUNDS)
    max_waiting: int = knob(256, "mentions that wait at most; behind them requests are answered 503", panel=BOUNDS)
    patience: int = knob(30, "seconds that a request may take", panel=BOUNDS)

    def __post_init__(self) -> None:
        for name, least, most in (
            ("port", 0, 65535),
            ("max_request", 1, 1024),
            ("max_mentions", 1, 10_000),
            ("max_waiting", 1, 1_000_000),
            ("patience", 1, 3600),
        ):
            if not least <= getattr(self, name) <= most:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{flag} is {getattr(self, name)}; it must be {least} to {most}")
        if self.max_waiting < self.max_mentions:
            raise ConfigError(
                f"--max-waiting {self.max_waiting} is less than --max-mentions {self.max_mentions}: "
                "a full request would never fit"
            )
