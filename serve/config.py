"""Every knob of serving, once; the command line derives from it.  No torch and no web framework here."""

from dataclasses import dataclass

from common.errors import ConfigError
from common.options import knob
from link.config import LoadConfig

BOUNDS = "Bounds"


@dataclass(frozen=True)
class ServeConfig(LoadConfig):
    """What `melcache serve` does."""

    host: str = knob("127.0.0.1", "address to listen on; any but this machine's own lets in whoever reaches it")
    port: int = knob(8000, "port to listen on; 0: a free one")
    max_request: int = knob(20, "megabytes of a request at most, its pictures with it", panel=BOUNDS)
    max_mentions: int = knob(64, "mentions of a request at most, and of one address that wait at once", panel=BOUNDS)
    max_waiting: int = knob(256, "mentions that wait at most; behind them requests are answered 503", panel=BOUNDS)
    max_connections: int = knob(512, "connections at most; each is a descriptor of the process", panel=BOUNDS)
    max_connections_each: int = knob(
        128, "connections of one address at most; behind a proxy as many as --max-connections", panel=BOUNDS
    )
    patience: int = knob(30, "seconds that a request may take", panel=BOUNDS)

    def __post_init__(self) -> None:
        for name, least, most in (
            ("port", 0, 65535),
            ("max_request", 1, 1024),
            ("max_mentions", 1, 10_000),
            ("max_waiting", 1, 1_000_000),
            ("max_connections", 1, 100_000),
            ("max_connections_each", 1, 100_000),
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
