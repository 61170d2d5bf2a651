"""One cache as one uncompressed tar: the same bytes whoever writes it, checked on its way in.

The manifest is the first member, for it lists the others; they are plain files in the tar's root and in manifests/.
`tar xf` in an empty directory makes the same cache, unchecked.
"""

import contextlib
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cache import manifests, partial_cache, store
from cache.checks.verify import refuse_strange
from cache.manifests.entries import Manifest
from cache.sharing import signing
from cache.sharing.download import check_space
from cache.sharing.tar_members import Members, RefusedError, beside, opened
from cache.store.resumable_file import BLOCK, Growing
from cache.writing import checksums
from common.errors import CacheError, ConfigError, DeniedError
from common.foreign import shell
from common.output import Progress, duration, size
from common.paths import exists, is_file

LARGEST = 8 << 30  # members of a plain tar are smaller


@dataclass(frozen=True)
class Archived:
    """A cache that went into a tar or came out of one: `path` is what was made, `bytes` those of its `files`.

    `signer` is who has signed what came out, "" where nobody was asked for.
    """

    id: str
    path: str
    files: int
    bytes: int
    seconds: float
    signer: str = ""

    def __str__(self) -> str:
        signed = f"\nsigned by {self.signer}" if self.signer else ""
        made = f"{self.path}: {self.files} files, {size(self.bytes)}, in {duration(self.seconds)}"
        return f"{made}\ncache id {self.id}{signed}"


def export(folder: Path, file: Path) -> Archived:
    """Write the cache in `folder` into a tar and return what was done; every shard is checked on the way.

    Raises ConfigError if `file` is there already, CacheError for damaged shards and a full or failing disk: then
    there is no `file`.
    """
    began, manifest = time.monotonic(), manifests.load(folder)
    identity = partial_cache.whole_manifest(folder, manifest).id
    if exists(file):
        raise ConfigError(f"{file} is there already; name another file, or remove it")
    listed = _listed(folder, manifest)
    with (
        store.published(file) as target,
        tarfile.open(fileobj=target, mode="w|", format=tarfile.USTAR_FORMAT, bufsize=BLOCK) as tar,
        Progress(sum(count for _, count, _ in listed), f"export {folder.name}", "B") as progress,
    ):
        for name, count, sha256 in listed:
            _add(tar, folder / name, name, count, sha256)
            progress.advance(count)
    return Archived(identity, str(file), len(listed), sum(item[1] for item in listed), time.monotonic() - began)


def take(file: Path, folder: Path, *, identity: str | None = None, signers: Path | None = None) -> Archived:
    """Turn a tar that `export` wrote into a cache in `folder` and return what was done.

    `identity` is the cache id that it must have, `signers` a file of trusted signers, one of whom must have signed it.
    Raises CacheError, naming the member, for anything that such a tar does not hold, and ConfigError if another cache
    is in `folder`; then nothing is left of it.
    """
    began = time.monotonic()
    with opened(file) as members:
        expected = _Expected(file, members.manifest, identity, signers)
        _refuse_another(folder, members.manifest, file)
        new = not exists(folder)
        with store.alone(folder), _undone(folder, new) as placed:
            check_space(folder, members.manifest.shards, "the import", "Make room")
            small = _take_shards(members, folder, placed, expected)
            refuse_strange(folder, members.manifest)
            for name, data in (*small.items(), (manifests.NAME, manifests.written(members.manifest.as_json()))):
                placed += [folder / name] * (not exists(folder / name))
                store.publish(folder / name, data, replace=True)
            checksums.forget(folder, (shard.file for shard in members.manifest.shards))
            store.sweep(folder)
    sizes = [shard.bytes for shard in members.manifest.shards]
    found, count = partial_cache.whole_manifest(folder, members.manifest).id, len(sizes) + len(small) + 1
    return Archived(found, str(folder), count, sum(sizes), time.monotonic() - began, expected.signer)


def dataset(file: Path) -> str:
    """Return the name of the dataset whose cache a tar holds.  Raises CacheError if it is no such tar."""
    with opened(file) as members:
        return members.manifest.dataset.name


def _listed(folder: Path, manifest: Manifest) -> list[tuple[str, int, str]]:
    """Return name, bytes and sha256 ("" of what proves itself) of each member, the manifest first."""
    small = [manifests.NAME, *(name for name in beside(manifest) if is_file(folder / name))]
    shards = sorted((shard.file, shard.bytes, shard.sha256) for shard in manifest.shards)
    if large := [name for name, count, _ in shards if count >= LARGEST]:
        raise CacheError(f"{folder / large[0]} is too large for a tar, whose members have less than {size(LARGEST)}")
    return [(name, (folder / name).stat().st_size, "") for name in small] + shards


def _add(tar: tarfile.TarFile, path: Path, name: str, count: int, sha256: str) -> None:
    member = tarfile.TarInfo(name)  # mode 644, time 0, user 0
    member.size = count
    with store.open_shard(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        found = path.lstat().st_size
        source = _Hashed(file, path)
        if found == count:
            tar.addfile(member, source)
        if found != count or (sha256 and source.hexdigest() != sha256):
            raise CacheError(f"{path} is not what the manifest lists. Run: melcache verify {shell(path.parent)}")


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._hash = file, path, hashlib.sha256()

    def read(self, limit: int = -1) -> bytes:
        try:
            block = self._file.read(limit)
        except OSError as error:
            raise CacheError(f"cannot read {self._path}: {error.strerror}") from error
        self._hash.update(block)
        return block

    def hexdigest(self) -> str:
        """Return the sha256 of what has been read."""
        return self._hash.hexdigest()


class _Expected:
    """What an import must be: of an id, or signed.  `signer` is who has signed it."""

    def __init__(self, file: Path, manifest: Manifest, identity: str | None, signers: Path | None) -> None:
        self._file, self._manifest, self._identity, self._signers = file, manifest, identity, signers
        self.signer = ""

    def check(self, small: dict[str, bytes]) -> None:
        """Raise CacheError for another cache, by the small files, which stand before the shards."""
        of = self._manifest.provenance.whole_id
        found = of if of is not None and manifests.copy_of(of) in small else self._manifest.id
        if self._identity not in (None, found):
            raise CacheError(
                f"{self._file} holds cache {found}, not {self._identity}. Ask whoever gave you the id for the "
                "tar of that cache"
            )
        if self._signers is not None and not self.signer:
            signature = small.get(manifests.signature_of(found))
            self.signer = signing.verify(found, signature, self._signers, str(self._file))


def _take_shards(members: Members, folder: Path, placed: list[Path], expected: _Expected) -> dict[str, bytes]:
    """Place the shards, tell those that were not there before, and return the small files that came along."""
    sums = {shard.file: shard.sha256 for shard in members.manifest.shards}
    small: dict[str, bytes] = {}
    with Progress(members.manifest.bytes, f"import {folder.name}", "B") as progress:
        for member in members:
            if member.name in sums:
                expected.check(small)
                _place(members, member, folder / member.name, sums[member.name], placed)
                progress.advance(member.size)
            else:
                small[member.name] = _proved(member.name, members.all(member), members.manifest)
    return small


def _place(members: Members, member: tarfile.TarInfo, path: Path, sha256: str, placed: list[Path]) -> None:
    digest = hashlib.sha256()
    with Growing(path, sha256, keep=False) as file:
        for block in members.blocks(member):
            file.write(block)
            digest.update(block)
        if digest.hexdigest() != sha256:
            raise RefusedError(f"member {member.name} is not what its manifest lists: its sha256 differs")
        placed += [path] * (not exists(path))
        file.place(replace=True)


def _proved(name: str, data: bytes, manifest: Manifest) -> bytes:
    """Return a small file's bytes: a signature, or the manifest of the cache that this is a part of."""
    if not name.endswith(".sig"):
        whole = manifests.read(data, f"member {name}")
        if manifests.copy_of(whole.id) != name or partial_cache.take(whole, manifest.parts).id != manifest.id:
            raise RefusedError(f"member {name} is not the manifest of the cache that this is a part of")
    return data


def _refuse_another(folder: Path, manifest: Manifest, file: Path) -> None:
    try:
        here = manifests.load(folder).id
    except DeniedError:
        raise
    except CacheError:  # nothing, or what is damaged: it gets mended
        return
    if here != manifest.id:
        raise ConfigError(f"{folder} is cache {here}, {file} holds {manifest.id}. Give it another place: --name")


@contextlib.contextmanager
def _undone(folder: Path, new: bool) -> Iterator[list[Path]]:
    """Yield a list for the files that are made: if the block fails they are removed, and the folder if it is `new`."""
    placed: list[Path] = []
    try:
        yield placed
    except BaseException:
        with contextlib.suppress(OSError):
            for path in reversed(placed):
                path.unlink(missing_ok=True)
        for made in (folder / manifests.COPIES, folder) if new else ():
            with contextlib.suppress(OSError):
                made.rmdir()
        raise
