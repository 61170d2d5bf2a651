"""What several heads' configs say of a knob, and refuse."""

import re
from collections.abc import Callable, Sequence

from cache.edges import EDGES
from common.errors import ConfigError
from common.words import one_of

HELD_OUT = re.compile(r"train:(0?\.[0-9]{1,6})")
MARGIN = "margin of gold's score over the mean of the other candidates' (DRIN 4.4)"


def check(config: object, names: Sequence[str], wanted: str, good: Callable[[float], bool]) -> None:
    """Raise ConfigError for a number that was given (None: it was not) and is not as wanted, or not finite."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (good(value) and value < float("inf")):
            raise ConfigError(f"--{name.replace('_', '-')} is {value:g}; it must be {wanted}")


def check_not_negative(config: object, *names: str) -> None:
    """Raise ConfigError for a number below 0."""
    check(config, names, "0 or more", lambda value: value >= 0)


def check_at_least_one(config: object, *names: str) -> None:
    """Raise ConfigError for a number below 1."""
    check(config, names, "at least 1", lambda value: value >= 1)


def check_positive(config: object, *names: str) -> None:
    """Raise ConfigError for a number that is not above 0."""
    check(config, names, "positive", lambda value: value > 0)


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
