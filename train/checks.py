"""What several heads' configs say of a knob, and refuse."""

import re
from typing import Any

from cache.schema import EDGES
from common.errors import ConfigError
from common.words import one_of

HELD_OUT = re.compile(r"train:(0?\.[0-9]{1,6})")
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


def shown(value: bool | float | str) -> str:
    """Return a knob's default as its help says it: yes, 1e-3, triplet."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < value < 0.01:
        return f"{value:.0e}".replace("e-0", "e-")
    return value if isinstance(value, str) else f"{value:g}"


def share_of(valid_from: str) -> float:
    """Return the share of train that --valid-from `train:SHARE` holds out.  Raises ConfigError for anything else."""
    found = HELD_OUT.fullmatch(str(valid_from))
    if found is None or not float(found[1]):
        raise ConfigError(f"--valid-from {valid_from}: expected train:SHARE, the share more than 0 and less than 1")
    return float(found[1])


def check_edges(edges: tuple[str, ...]) -> None:
    """Raise ConfigError for no edge, and for one that is none."""
    wrong = next((edge for edge in edges if edge not in EDGES), "")
    if not edges or wrong:
        raise ConfigError(f"--edges {','.join(edges) or '(none)'}: choose from {one_of(wrong, EDGES)}")
