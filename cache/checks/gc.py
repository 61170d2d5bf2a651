"""What lies in a cache directory and belongs to no cache there: found, told, and removed where that is asked for.

Only names that melcache gives are looked at. What is newer than the manifest may be the work of an extraction or a pull
that is under way or will go on: it stays unless one says otherwise, as all does where there is no manifest yet.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cache import manifests, store
from cache.remotes.meeting_names import MEETING, NAMED
from cache.schema import PARTS
from cache.store import claims, lacking, plans, temporary_names
from cache.store.temporary_names import TemporaryName
from cache.writing import checksums
from common.errors import CacheError
from common.output import size, table
from common.paths import exists, is_folder, names

SHARD = re.compile(rf"({'|'.join(map(re.escape, PARTS))})-[0-9]{{5,}}\.[0-9a-f]{{12}}\.h5")
BESIDE = re.compile(r"[0-9a-f]{64}\.(json|sig)")
SHARDS, WORK, TEMPORARY, MET, OTHER = (
    "shards that no manifest here lists",
    "unfinished work: newer than the manifest, or without one",
    "temporary files of processes that have ended",
    "what machines that have met here left",
    "manifests and signatures of other caches",
)
CODES = "codes for searches, made again by the next link that needs them"


@dataclass(frozen=True)
class Leftover:
    """One file, relative to the cache directory.  `kept`: it stays; `shared`: another cache has it, too."""

    file: str
    bytes: int
    kind: str
    kept: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Collected:
    """What was found in `folder`; all but what is kept was removed if `deleted`."""

    folder: str
    deleted: bool
    files: list[Leftover] = field(default_factory=list)

    def __str__(self) -> str:
        gone = [file for file in self.files if not file.kept]
        rows = []
        for kind in (SHARDS, WORK, TEMPORARY, MET, OTHER, CODES):
            some = [file for file in self.files if file.kind == kind]
            done = "kept" if any(file.kept for file in some) else "removed" if self.deleted else "to be removed"
            rows += [(kind, len(some), size(sum(file.bytes for file in some)), done)] * bool(some)
        if not rows:
            return f"{self.folder}: nothing is left over"
        what = f"{len(gone):,} file{'s' * (len(gone) != 1)}, {size(sum(file.bytes for file in gone))}"
        if shared := sum(file.bytes for file in gone if file.shared):
            what += f" ({size(shared)} of that stays on the disk, in caches beside)"
        said = f"{what} removed" if self.deleted else f"{what} to be removed: add --delete"
        said = said if gone else "nothing to remove"
        more = "; add --unfinished for what is kept" if any(file.kept for file in self.files) else ""
        return f"{table(('what', 'files', 'size', ''), rows)}\n{self.folder}: {said}{more}"


def collect(folder: Path, *, delete: bool = False, unfinished: bool = False) -> Collected:
    """Find what is left over in a cache directory, and with `delete` remove it.

    `unfinished` includes what may be work. Raises CacheError if another process is at work there, if the manifest is
    damaged, or if there is none and `unfinished` is not set: nothing is removed then.
    """
    if not exists(folder / manifests.NAME) and not unfinished:
        raise CacheError(
            f"{folder}/ has no {manifests.NAME}: an interrupted extraction, pull or import continues from its shards. "
            "Finish that, or remove them: melcache gc --unfinished"
        )
    if not delete:
        return Collected(str(folder), False, list(_find(folder, unfinished)))
    with store.alone(folder):
        files = list(_find(folder, unfinished))
        if unfinished and (live := next(_living(folder), None)):
            raise CacheError(f"{live} is being written: wait until its process has ended")
        for file in files:
            if not file.kept:
                (folder / file.file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds more, or there is none
            (folder / MEETING).rmdir()
        checksums.forget(folder, (file.file for file in files if not file.kept))
        for place in (folder, folder / manifests.COPIES):
            if is_folder(place):
                lacking.sync_directory(place)
    return Collected(str(folder), True, files)


def _find(folder: Path, unfinished: bool) -> Iterator[Leftover]:
    (listed, beside, finished), copies = _belonging(folder), folder / manifests.COPIES
    for path, status in _files(folder):
        if SHARD.fullmatch(path.name) and path.name not in listed:
            new = status.st_mtime_ns >= finished
            shared = status.st_nlink > 1
            yield Leftover(path.name, status.st_size, WORK if new else SHARDS, new and not unfinished, shared)
        elif (noted := checksums.NAME.fullmatch(path.name)) and (
            noted[1] in listed or not exists(folder / noted[1])  # of other shards it goes with the shard
        ):
            new = status.st_mtime_ns >= finished
            yield Leftover(path.name, status.st_size, WORK if new else TEMPORARY, new and not unfinished)
    for path, status in _files(folder / MEETING):  # of a place that others push to
        name, new = str(path.relative_to(folder)), status.st_mtime_ns >= finished
        if NAMED.fullmatch(name):
            yield Leftover(name, status.st_size, WORK if new else MET, new and not unfinished)
    for place in (folder, copies, folder / MEETING):
        for path, status in _files(place):
            name = str(path.relative_to(folder))
            if path.name.startswith(temporary_names.PREFIX) and _dead(path):
                begun = TemporaryName.parse(path.name)
                new = begun is not None and bool(begun.content) and status.st_mtime_ns >= finished
                yield Leftover(name, status.st_size, WORK if new else TEMPORARY, new and not unfinished)
            elif path.name.startswith(plans.PREFIX) and _void(path):
                new = status.st_mtime_ns >= finished  # workers that have not begun yet may go by it
                yield Leftover(name, status.st_size, WORK if new else TEMPORARY, new and not unfinished)
            elif path.name.startswith(claims.PREFIX) and claims.void(path):
                yield Leftover(name, status.st_size, TEMPORARY)
            elif path.name.startswith(temporary_names.SEARCH):
                yield Leftover(name, status.st_size, CODES)
            elif place == copies and BESIDE.fullmatch(path.name) and beside is not None and name not in beside:
                yield Leftover(name, status.st_size, OTHER)


def _belonging(folder: Path) -> tuple[set[str], set[str] | None, int]:
    """Return the shards that belong, what belongs beside them (None: all), and when the manifest was written.

    A place that others pull from keeps every publication, for who asks for its id.
    """
    if not exists(folder / manifests.NAME):
        return set(), None, -1
    manifest = manifests.load(folder)
    listed = {shard.file for shard in manifest.shards}
    finished = (folder / manifests.NAME).lstat().st_mtime_ns
    whole = manifest.provenance.whole_id
    if whole is not None or not exists(folder / manifests.copy_of(manifest.id)):
        name = whole or manifest.id
        return listed, {manifests.copy_of(name), manifests.signature_of(name)}, finished
    for path, _ in _files(folder / manifests.COPIES):
        if path.suffix == ".json":
            found = manifests.read(store.read_regular(path, manifests.MAX_BYTES), str(path))
            listed |= {shard.file for shard in found.shards}
    return listed, None, finished


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files in a folder, in order of names."""
    for path in () if folder.is_symlink() else (folder / name for name in names(folder)):
        with contextlib.suppress(FileNotFoundError):  # it has its name by now
            if stat.S_ISREG((status := path.lstat()).st_mode):
                yield path, status


def _living(folder: Path) -> Iterator[Path]:
    for path, _ in _files(folder):
        if path.name.startswith(temporary_names.PREFIX) and not _dead(path):
            yield path


def _dead(path: Path) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile
        return temporary_names.abandoned(path)
    return False


def _void(plan: Path) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile
        return plans.void(plan, temporary_names.STALE_SECONDS)
    return False
