"""Options that commands share, and how they print."""

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from common import console, places
from common.errors import ConfigError
from common.paths import SHARDS, exists, find_cache

Done = TypeVar("Done")

PATH = Annotated[str, typer.Argument(help="a cache directory, or a name under shards/", metavar="PATH")]


def identity_of(text: str) -> str:
    """Return a cache id as it was given.  Raises ConfigError for what is none."""
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise ConfigError(f"--id {text}: a cache id has 64 hex digits; melcache info prints it")
    return text


HERE = places.local  # what makes a path of an option or an argument
JSON = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
URL = Annotated[
    str,
    typer.Argument(
        help="a directory, s3://, gs:// or hf://datasets/org/name: of this cache alone; {name} stands for its name",
        metavar="URL",
    ),
]
IDENTITY = Annotated[
    str | None,
    typer.Option("--id", help="the cache id it must have, 64 hex digits", metavar="ID", parser=identity_of),
]
REQUIRE = Annotated[bool, typer.Option("--require-signed", help="refuse a cache that none of --signers has signed")]
SIGNERS = Annotated[
    Path | None,
    typer.Option(
        help="file of whose signatures count, as man ssh-keygen's ALLOWED SIGNERS", metavar="FILE", parser=HERE
    ),
]


def trusted(required: bool, signers: Path | None) -> Path | None:
    """Return the file of signers where a signature is asked for."""
    if required and signers is None:
        raise ConfigError("--require-signed needs --signers FILE: whose signatures count")
    return signers


def cache_at(path: str) -> Path:
    """Return the directory of a cache given as a path or as a name under shards/.  Raises MelcacheError."""
    return find_cache(path)


def is_name(name: str) -> bool:
    """Return whether a new cache is given by its name under shards/, not by a path."""
    path = places.local(name)
    return path.name == name != ".." and not exists(path / "manifest.json")


def place(name: str) -> Path:
    """Return the directory that a new cache of that name, or path, shall have."""
    return SHARDS / name if is_name(name) else places.local(name)


def interruptible(action: Callable[[], Done], then: str) -> Done:
    """Return what an action returns; after Ctrl-C say what then."""
    try:
        return action()
    except KeyboardInterrupt:
        console.tell(f"interrupted: {then}")
        raise typer.Exit(130) from None


def say_done(done: Any, *, as_json: bool) -> None:
    """Print what a command did: a dataclass, whose text is for people."""
    if as_json:
        console.show_json(asdict(done))
    else:
        console.show(str(done))
