"""Where workers run, as a person writes it: `local:4`."""

import re
from dataclasses import dataclass
from typing import Self

from common.errors import ConfigError

# help of the options that a command with workers has
WORKERS_ON = "local:N: N processes on this machine, which divide the work; one for each GPU where there are several"


@dataclass(frozen=True)
class Engine:
    """What starts `count` workers."""

    kind: str
    count: int

    @classmethod
    def of(cls, workers_on: str | None) -> Self | None:
        """Return the engine that --workers-on names, None for none.  Raises ConfigError."""
        if workers_on is None:
            return None
        if (found := re.fullmatch(r"(local):([1-9][0-9]{0,2})", workers_on)) is None:
            raise ConfigError(f"--workers-on {workers_on}: expected local:N, such as local:4")
        return cls(found[1], int(found[2]))
