"""Bytes of a release's files, packed (.gz, .zip) or not, and of a packed one no more than text can become.

Deflate turns a megabyte into a gigabyte of blanks or of one repeated record, which nobody meant to write; texts grow
3 to 30 times.
"""

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from common.errors import DatasetError
from common.output import size
from common.paths import is_special

RATIO = 300  # bytes that one packed byte may become
FLOOR = 64 << 20  # and so many in all, whatever the ratio
LINE = 64 << 20  # bytes of a line
CHUNK = 1 << 20
DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)


@contextlib.contextmanager
def fitting(what: str) -> Iterator[None]:
    """Raise DatasetError where reading `what` needs more memory than there is."""
    try:
        yield
    except MemoryError:
        raise DatasetError(
            f"{what} needs more memory than this process may use. Raise the limit (ulimit -v, or the container's), or "
            "read it on a larger machine"
        ) from None


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file or a .gz, one at a time, each with its newline.

    Raises DatasetError if the file is damaged, unpacks to more than text would, or has a line of more than LINE bytes.
    """
    limit, taken = _limit(path), 0
    with _told(path), _open(path) as file:
        while line := file.readline(LINE + 1):
            taken += len(line)
            if taken > limit:
                raise _bomb(path, taken)
            if len(line) > LINE:
                raise DatasetError(f"{path} has a line of more than {size(LINE)}: not the text of a release")
            yield line


def whole(path: Path) -> bytes:
    """Return the bytes of a file, of a .gz, or of the one .json in a .zip.  Raises DatasetError as `lines` does."""
    limit, parts, taken = _limit(path), [], 0
    with _told(path), contextlib.ExitStack() as opened:
        if path.suffix == ".zip":
            archive = opened.enter_context(zipfile.ZipFile(path))
            member = _only_json(archive, path)
            if member.file_size > max(FLOOR, RATIO * member.compress_size):
                raise _bomb(path, member.file_size)
            file = opened.enter_context(archive.open(member))
        else:
            file = opened.enter_context(_open(path))
        while part := file.read(CHUNK):
            parts.append(part)
            taken += len(part)
            if taken > limit:
                raise _bomb(path, taken)
    return b"".join(parts)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _limit(path: Path) -> float:
    """Return how many bytes a regular file may become.

    Where a .gz says of itself that it becomes more, unpack it once and keep nothing: it is damaged, or a bomb.
    """
    if is_special(path):
        raise DatasetError(f"{path} is not a regular file, expected the text of a release")
    if path.suffix != ".gz":
        return float("inf")
    with _told(path), path.open("rb") as file:
        packed = file.seek(0, 2)
        file.seek(max(0, packed - 4))
        said = int.from_bytes(file.read(4), "little")  # modulo 2^32, of the last member
    limit, taken = max(FLOOR, RATIO * packed), 0
    if said > limit:
        with _told(path), gzip.open(path) as file:
            while part := file.read(CHUNK):
                taken += len(part)
                if taken > limit:
                    raise _bomb(path, said)
    return limit


def _bomb(path: Path, unpacked: int) -> DatasetError:
    return DatasetError(
        f"{path} is refused: its {size(path.stat().st_size)} unpack to {size(unpacked)} or more, which no text of a "
        "release does. If that is intended, unpack it beside the packed file"
    )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise DatasetError, naming the file, where reading it fails."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's word, not gzip's
            raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
        raise DatasetError(f"{path} cannot be read: {error}. Copied only in part?") from error


def _only_json(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if m.filename.endswith(".json") and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise DatasetError(f"{path} must hold one .json file, found {len(members)}. Unpack it beside the archive")
    return members[0]
