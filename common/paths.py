"""Where things lie: caches under shards/, raw releases under data/, training runs under runs/."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from common import places
from common.by_make import suggested
from common.errors import CacheError, ConfigError, DeniedError
from common.records import RELEASES
from common.words import one_of

SHARDS = Path("shards")
DATA = Path("data")
RUNS = Path("runs")
MANIFEST = "manifest.json"  # what makes a folder a cache
NAME_BYTES = 255  # of a file or folder, on nearly every file system
ADVICE = dict.fromkeys((errno.EACCES, errno.EPERM), ". Let this user do so (chmod), or ask the owner")
# what the system says of a path that nothing can have; whatever else it says leaves open whether something is there
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def status(path: Path, *, follow: bool = True) -> os.stat_result | None:
    """Return what the system says of a path, None where nothing is.  Raises DeniedError where it does not say."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise denied("look at", path, error) from error
    except ValueError:  # a NUL in the name
        return None


def exists(path: Path) -> bool:
    """Return whether something has this name, be it a link to nothing.  Raises DeniedError."""
    return status(path, follow=False) is not None


def is_file(path: Path) -> bool:
    """Return whether a regular file, or a link to one, is there.  Raises DeniedError."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_special(path: Path) -> bool:
    """Return whether something is there that is no regular file: of a FIFO or a device reading may have no end."""
    found = status(path)
    return found is not None and not stat.S_ISREG(found.st_mode)


def is_folder(path: Path) -> bool:
    """Return whether a folder, or a link to one, is there.  Raises DeniedError."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder.  Raises DeniedError."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise denied("list", folder, error) from error
    except ValueError:  # a NUL in the name
        return []


def files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, and of links to files; none where there is no folder.

    Raises DeniedError. One look at the folder: as a rule it says what is a file.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise denied("list", folder, error) from error
    except ValueError:  # a NUL in the name
        return []


def denied(doing: str, path: Path, error: OSError) -> DeniedError:
    """Return the error for what the system does not let one do with a path."""
    return DeniedError(f"cannot {doing} {path}: {error.strerror}{ADVICE.get(error.errno or 0, '')}")


def check_writable(folder: Path) -> None:
    """Raise DeniedError where nothing can be written into a folder, or into the nearest above it that exists."""
    there = next((place for place in (folder, *folder.parents) if exists(place)), Path())
    if not is_folder(there):
        raise DeniedError(
            f"cannot write to {folder}/: {there} is no folder. Move it out of the way, or name another place"
        )
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=effective):
        raise DeniedError(
            f"cannot write to {folder}/: {there}/ lets this user write nothing. Let it (chmod), or name another place"
        )


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, where it is not there.  Raises DeniedError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = denied("make the folder", path, error).text
        away = ". Move what has that name out of the way" if isinstance(error, FileExistsError) else ""
        raise DeniedError(f"{said}{away}") from error


def check_output(path: Path, flag: str, *inputs: Path | None) -> None:
    """Raise ConfigError for a file to write that would replace what no such file replaces: what is read, or no file.

    Root replaces /dev/stdout, too, and a pipe: whoever reads it would wait for ever.
    """
    found = status(path, follow=False)
    if found is None:
        return
    if not stat.S_ISREG(found.st_mode):
        kind = "a link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise ConfigError(f"{flag} {path}: {kind} has that name. Name a new file, or one to replace")
    for other in filter(None, inputs):
        held = status(other)
        if held is not None and os.path.samestat(found, held):
            raise ConfigError(f"{flag} {path} would replace {other}, which is read. Name another file")


def check_name(name: str, what: str) -> None:
    """Raise ConfigError for what cannot name a cache: its folder, and the dataset that its manifest tells."""
    bad = next((char for char in name if not char.isprintable()), None)
    if bad is not None:
        raise ConfigError(f"{what} {name!a}: {bad!a} is not printable. Use another character")
    longest = max(len(os.fsencode(part)) for part in name.split("/"))
    if longest > NAME_BYTES:
        raise ConfigError(f"{what} {name[:20]}...: {longest} bytes, and the name of a folder has at most {NAME_BYTES}")
    if name.rstrip("/").rpartition("/")[2].strip() in ("", ".", ".."):
        raise ConfigError(f"{what} {name!r} names nothing: give a name such as wikimel")


@dataclass(frozen=True)
class Place:
    """Where a cache lies here, as a user writes it: a path, or a name under `shards`.

    All methods raise ConfigError for what can be neither, and DeniedError where the system does not say.
    """

    written: str
    shards: Path = SHARDS

    @property
    def path(self) -> Path:
        """What was written, as a path."""
        return places.local(self.written)

    @property
    def is_name(self) -> bool:
        """Whether a new cache is given by its name under `shards`, not by a path."""
        return self.path.name == self.written != ".." and not exists(self.path / MANIFEST)

    def new(self) -> Path:
        """Return the directory that a new cache shall have."""
        return self.shards / self.written if self.is_name else self.path

    def cache(self) -> Path:
        """Return the directory of the cache that is there.  Raises CacheError if none is."""
        refused, both = None, (self.path, self.shards / self.path)
        for candidate in both:
            try:
                if exists(candidate / MANIFEST):
                    return candidate
            except DeniedError as error:
                refused = refused or error
        if refused is not None:
            raise refused
        own = os.path.basename(os.path.abspath(self.path))  # of . it is the working directory's name
        for candidate in filter(is_folder, both):
            raise CacheError(
                f"{candidate}/ has no {MANIFEST}: its extraction or pull has not finished. "
                f"Finish it with: {_extraction(own)}, or the same melcache pull"
            )
        there = [name for name in names(self.shards) if exists(self.shards / name / MANIFEST)]
        other = f", or choose from: {one_of(own, there)}" if there else ""
        raise CacheError(f"No cache for '{self.written}' in {self.shards}/. Make it with: {_extraction(own)}{other}")

    def unfinished(self) -> Path:
        """Return the directory of a cache, finished or not.  Raises CacheError if there is none."""
        there = [folder for folder in (self.path, self.shards / self.path) if is_folder(folder)]
        finished = [folder for folder in there if exists(folder / MANIFEST)]
        return next(iter(finished + there), None) or self.cache()


def _extraction(name: str) -> str:
    """Return the command that makes a cache of a name: of a release that has it, or of data of one's own."""
    known = name in RELEASES
    return suggested("extract", {"dataset": name} if known else {"dataset": "jsonl", "data": "FOLDER", "name": name})


def find_cache(name: str | Path, shards: Path = SHARDS) -> Path:
    """Return the directory of the cache at a Place.  Raises as that does."""
    return Place(str(name), shards).cache()
