"""Commands that look at caches and change nothing."""

from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from cache import manifests
from cache.commands.options import json_knob, path_knob, require_knob, signers_knob, trusted
from cache.commands.overview import describe, named
from cache.reader import Reader
from common import console
from common.errors import ConfigError
from common.foreign import printable
from common.options import knob
from common.output import size
from common.paths import find_cache


@dataclass(frozen=True)
class InfoConfig:
    """What `melcache info` shows."""

    path: str = path_knob()
    json: bool = json_knob()


def info(config: InfoConfig) -> None:
    """Print what is in a cache: dataset, tables, parts, columns, coverage, id."""
    folder = find_cache(config.path)
    manifest = manifests.load(folder)
    console.present(named(folder, manifest), lambda _: describe(folder, manifest), as_json=config.json)


@dataclass(frozen=True)
class VerifyConfig:
    """What `melcache verify` checks."""

    path: str = path_knob()
    json: bool = json_knob()
    require_signed: bool = require_knob()
    signers: Path | None = signers_knob()


def verify(config: VerifyConfig) -> None:
    """Check every byte of a cache against its manifest, and who signed it; exit 1 if anything differs."""
    folder = find_cache(config.path)
    if known := trusted(config.require_signed, config.signers):
        from cache.sharing import signing

        console.tell(f"{folder}: signed by {printable(signing.of_folder(folder, known))}")
    from cache.checks import verify

    findings = list(verify.verify(folder))
    damaged = [found for found in findings if found.problem and found.bytes]
    found = {"ok": not damaged, "files": [asdict(finding) for finding in findings]}
    console.present(found, lambda _: _verified(folder, findings), as_json=config.json)
    if damaged:
        raise typer.Exit(1)


def _verified(folder: Path, findings: list[Any]) -> str:
    """Return what there is to say of the files of a cache: those with a problem, and all of them in numbers."""
    damaged = [found for found in findings if found.problem and found.bytes]
    good, total = sum(not found.problem for found in findings), sum(found.bytes for found in findings)
    unread = [folder / found.file for found in damaged if found.unread]
    links = sum(path.is_symlink() for path in unread)
    told = {
        "damaged: remove them and run the extraction again, or copy them again": len(damaged) - len(unread),
        "links, not read: copy with cp -L": links,
        "not read, so nothing is known of them": len(unread) - links,
    }
    state = "; ".join(f"{count} {what}" for what, count in told.items() if count) or "ok"
    lines = [printable(f"{found.file}: {found.problem}") for found in findings if found.problem]
    return "\n".join([*lines, f"{folder}: {good} of {good + len(damaged)} shards as written, {size(total)}; {state}"])


@dataclass(frozen=True)
class DiffConfig:
    """What `melcache diff` compares."""

    first: str = knob(MISSING, "a cache directory, or a name under shards/", argument="A")
    second: str = knob(MISSING, "another cache", argument="B")
    tolerance: float = knob(
        2e-3, "largest difference of values that counts as equal, relative to the row's largest value"
    )
    json: bool = json_knob()

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):  # nothing is more than NaN
            raise ConfigError(f"--tolerance is {self.tolerance:g}; it must be 0 or more")


def diff(config: DiffConfig) -> None:
    """Say what differs between two caches: recipes field by field, rows by id, values; exit 1 if anything does."""
    from cache.checks import diff

    names = (config.first, config.second)
    first, second = (Reader(find_cache(name)) for name in names)
    found = diff.compare(first, second, config.tolerance)
    console.present(found, lambda found: diff.show(found, names), as_json=config.json)
    if not found["same"]:
        raise typer.Exit(1)
