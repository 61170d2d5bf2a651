"""What several heads' configs say of a knob, and refuse."""

from typing import Any

from common.errors import ConfigError

MARGIN = "of gold over the mean of the other candidates (DRIN 4.4)"


def check_margin(config: Any, name: str = "margin") -> None:
    """Raise ConfigError for a margin below 0."""
    if not 0 <= getattr(config, name) < float("inf"):
        raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name):g}; it must be 0 or more")


def check_positive(config: Any, *names: str) -> None:
    """Raise ConfigError for a number below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be at least 1")
