"""The members of a tar that a stranger may have written: plain files that the manifest, its first member, lists.

tarfile reads the 512 bytes of a header and what they say of a file; of extended headers, which may be of any size,
sparse maps and links it never sees one.
"""

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from cache import manifests, store
from cache.manifests.entries import Manifest
from cache.sharing.signing import SIGNATURE_BYTES
from cache.store.resumable_file import BLOCK
from common.errors import CacheError

PADDING = 1 << 20  # zeros that may follow the last member
END = 2 * tarfile.BLOCKSIZE  # zeros that must
REFUSED = {
    b"1": "a link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a directory",
    b"6": "a FIFO",
    b"S": "a sparse file",
    b"x": "an extended header",
    b"g": "an extended header",
    b"L": "an extended header",
    b"K": "an extended header",
}


class RefusedError(Exception):
    """What is wrong with a tar; `opened` makes it a CacheError that names the file."""


class Header(tarfile.TarInfo):
    """A header that is a plain file's, or refused before tarfile acts upon it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the header in 512 bytes."""
        found = super().frombuf(buf, encoding, errors)
        if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise RefusedError(f"member {found.name!r} is {REFUSED.get(found.type, 'of an unknown kind')}, not a file")
        return found


class Members:
    """The members after `manifest`, one after the other: each one that it lists, once, and as large as it says."""

    def __init__(self, tar: tarfile.TarFile, file: BinaryIO, where: str) -> None:
        self._tar, self._file = tar, file
        first = tar.next()
        if first is None or first.name != manifests.NAME or not 0 < first.size <= manifests.MAX_BYTES:
            raise RefusedError(f"its first member is not a {manifests.NAME}")
        self._end = _space(first.size)
        self.manifest = manifests.read(self.all(first), f"{where}: {manifests.NAME}")
        self._listed = {shard.file: shard.bytes for shard in self.manifest.shards}
        self._small = beside(self.manifest)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members.  Raises RefusedError for one that should not be there, or is missing."""
        missing = {*self._listed, *self._small}
        while (member := self._tar.next()) is not None:
            self._tar.members.clear()  # type: ignore[attr-defined] # it would keep them all; typeshed lacks it
            name = member.name
            if name not in missing:
                twice = name == manifests.NAME or name in self._listed or name in self._small
                raise RefusedError(
                    f"member {name!r} {'stands there twice' if twice else 'is not listed in its manifest'}"
                )
            missing.discard(name)
            if member.size != self._listed.get(name, member.size):
                raise RefusedError(f"member {name} has {member.size:,} bytes, its manifest says {self._listed[name]:,}")
            if name in self._small and not 0 < member.size <= self._small[name]:
                raise RefusedError(
                    f"member {name} has {member.size:,} bytes, more than the {self._small[name]:,} allowed"
                )
            self._end += _space(member.size)
            yield member
        if absent := sorted(missing & self._listed.keys()):
            raise RefusedError(f"{absent[0]}, which its manifest lists, is missing")
        self._check_end()

    def blocks(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield the bytes of a member."""
        file, left = self._tar.extractfile(member), member.size
        assert file is not None  # of a plain file
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise RefusedError(f"it ends inside {member.name}: copied only in part?")
            left -= len(block)
            yield block

    def all(self, member: tarfile.TarInfo) -> bytes:
        """Return the bytes of a small member."""
        return b"".join(self.blocks(member))

    def _check_end(self) -> None:
        self._file.seek(self._end)
        rest = self._file.read(PADDING + 1)
        if len(rest) > PADDING or rest.strip(b"\0"):
            raise RefusedError("something follows its last member")
        if len(rest) < END:
            raise RefusedError("its end is missing: copied only in part?")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Members]:
    """Open a tar.  Whatever is wrong with it, now or while it is read, is told as one CacheError that names it."""
    with store.open_regular(path.resolve()) as descriptor, open(descriptor, "rb", closefd=False) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as tar:
                yield Members(tar, file, str(path))
        except (tarfile.TarError, RefusedError) as error:
            raise CacheError(f"{path} is not as melcache export writes it: {error}") from error


def beside(manifest: Manifest) -> dict[str, int]:
    """Return what may lie beside a manifest, and its largest size: the proof that it is a part, and a signature."""
    of = manifest.provenance.whole_id
    proof = {manifests.copy_of(of): manifests.MAX_BYTES} if of else {}
    return proof | {manifests.signature_of(of or manifest.id): SIGNATURE_BYTES}


def _space(count: int) -> int:
    """Return the bytes that a file of so many takes in a tar, its header included."""
    return tarfile.BLOCKSIZE + -(-count // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
