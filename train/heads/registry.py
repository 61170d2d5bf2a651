"""Heads by name.  No torch here."""

from importlib import import_module

from train.heads.entry import Entry
from train.heads.head_config import HeadConfig

# the folders of heads, in the order in which tables and help show them
ROOMS = ("untrained", "joint", "dzmned", "mel_hi", "ghmfc", "dwe", "dwe_authors", "drin", "drin_authors", "ours")


def _entries(room: str) -> tuple[Entry, ...]:
    found: tuple[Entry, ...] = import_module(f"train.heads.{room}.entry").ENTRIES
    return found


HEADS: dict[str, Entry] = {entry.name: entry for room in ROOMS for entry in _entries(room)}
OURS = tuple(HEADS)  # melcache's; those of a user's own join HEADS in the process that loads them
TRAINED = tuple(name for name, entry in HEADS.items() if entry.config is not None)
CONFIG_CLASSES: tuple[type[HeadConfig], ...] = tuple(
    dict.fromkeys(entry.config for entry in HEADS.values() if entry.config is not None)
)


def add(entry: Entry) -> None:
    """Make a head of a user's own known by its name."""
    HEADS[entry.name] = entry
