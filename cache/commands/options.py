"""Knobs that several commands have, and what their values mean."""

import re
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Any

from common import console
from common.errors import ConfigError
from common.options import knob

LOOK, MAKE, SHARE = "Look at a cache", "Make a cache", "Share a cache"  # as `melcache --help` groups commands


def path_knob() -> Any:
    """Declare the argument that names a cache."""
    return knob(MISSING, "a cache directory, or a name under shards/", argument="PATH")


def url_knob() -> Any:
    """Declare the argument that names a place elsewhere."""
    text = (
        "a place for this cache alone: a directory, s3://, gs:// or hf://datasets/org/name; {name} is the cache's name"
    )
    return knob(MISSING, text, argument="URL")


def json_knob() -> Any:
    """Declare the option of results as JSON."""
    return knob(False, "print JSON instead of tables")


def id_knob() -> Any:
    """Declare the option of the cache id that is expected."""
    return knob(None, "the cache id it must have, 64 hex digits", flag="--id", metavar="ID")


def require_knob() -> Any:
    """Declare the option that asks for a signature."""
    return knob(False, "refuse a cache that no one of --signers has signed")


def signers_knob() -> Any:
    """Declare the option of who is trusted."""
    return knob(None, "file of trusted signers, as man ssh-keygen's ALLOWED SIGNERS", metavar="FILE")


def check_id(text: str | None) -> None:
    """Raise ConfigError for what is no cache id."""
    if text is not None and re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise ConfigError(f"--id {text}: a cache id has 64 hex digits; melcache info prints it")


def trusted(required: bool, signers: Path | None) -> Path | None:
    """Return the file of signers where a signature is asked for."""
    if required and signers is None:
        raise ConfigError("--require-signed needs --signers FILE, the trusted signers")
    return signers


def say_done(done: Any, *, as_json: bool) -> None:
    """Print what a command did: a dataclass, whose text is for people."""
    console.present(asdict(done), lambda _: str(done), as_json=as_json)
