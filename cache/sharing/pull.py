"""Take a cache from elsewhere, whole or what a head reads: resumed, and checked before a file has its name."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import manifests, partial_cache, remotes, store
from cache.checks.verify import refuse_strange
from cache.manifests.entries import Manifest, ShardEntry
from cache.names import PartName
from cache.remotes.base import Remote
from cache.sharing import signing
from cache.sharing.download import Fetch, check_space
from cache.sharing.parallel import Transfer
from cache.store import lacking
from cache.writing import checksums
from common.errors import CacheError, ConfigError, DeniedError
from common.foreign import shell
from common.output import duration, size
from common.paths import exists, names

SHOWN = 5  # names of caches that a message lists


@dataclass(frozen=True)
class Pulled:
    """What a pull did: bytes `taken` and `kept` in `parts`, out of `whole` in `all_parts`; who signed, or ""."""

    id: str
    url: str
    folder: str
    parts: int
    all_parts: int
    taken: int
    kept: int
    whole: int
    signer: str
    seconds: float

    def __str__(self) -> str:
        kept = f", {size(self.kept)} were present locally" if self.kept else ""
        some = f"; {self.parts} of {self.all_parts} parts are present locally" if self.parts < self.all_parts else ""
        signed = f"\nsigned by {self.signer}" if self.signer else ""
        return (
            f"{self.folder}: took {size(self.taken)} of {size(self.whole)}{kept}, in {duration(self.seconds)}{some}\n"
            f"cache id {self.id}{signed}"
        )


def pull(
    folder: Path,
    url: str,
    *,
    heads: str = "",
    identity: str = "",
    replace: bool = False,
    signers: Path | None = None,
    dataset: str = "",
) -> Pulled:
    """Take the cache at `url`, where {name} is the folder's, into `folder` and return what was done.

    `heads` names those whose parts are taken (with commas; parts by name too), else all; parts of the same cache that
    are here stay. `identity` is the cache id that it must have; an older one is looked for. `replace` takes the
    place of another cache. `signers` is a file of trusted signers, one of whom must have signed it. `dataset` is the
    name that the cache must have. Raises CacheError; what has arrived by then is kept, and the same call continues.
    """
    began, name = time.monotonic(), Path(os.path.realpath(folder)).name
    remote = remotes.open(url, name)
    url, whole = remote.url, _find(remote, identity, name)
    if dataset and whole.dataset.name != dataset:
        name = whole.dataset.name
        raise ConfigError(
            f"{url} is a cache of {name}, not of {dataset}. Run: melcache pull {shell(name)} {shell(url)}; or give a "
            "path"
        )
    signature = signing.of_remote(remote, whole.id)
    signer = signing.verify(whole.id, signature, signers, url) if signers else ""
    parts = partial_cache.wanted(heads, whole) if heads else list(whole.parts)
    with store.alone(folder):
        parts = _with_what_is_here(folder, whole, parts, url, replace=replace)
        manifest = partial_cache.take(whole, parts)
        files = [shard.file for shard in manifest.shards]
        checksums.keep(folder, files)
        taken = _Pull(folder, remote, manifest).run()
        refuse_strange(folder, manifest)
        _write(folder, whole, manifest, signature)
        checksums.forget(folder, files)
        store.sweep(folder)
    counts = {"parts": len(parts), "all_parts": len(whole.parts), "taken": taken, "whole": _bytes(whole.shards)}
    kept, seconds = _bytes(manifest.shards) - taken, time.monotonic() - began
    return Pulled(whole.id, remote.url, str(folder), signer=signer, kept=kept, seconds=seconds, **counts)


class _Pull:
    """The shards of a manifest on their way into a folder."""

    def __init__(self, folder: Path, remote: Remote, manifest: Manifest) -> None:
        self._folder, self._remote, self._manifest = folder, remote, manifest

    def run(self) -> int:
        """Take what is not here and return its bytes.

        A file that the manifest here lists with other bytes is taken last, without that manifest: a kill leaves
        either the old cache or one that has to be finished, never a mixture that opens.
        """
        shards = self._manifest.shards
        check_space(self._folder, shards, "the pull", "Make room, or take fewer parts: --for HEAD")
        total, label = _bytes(shards), f"pull {self._folder.name}"
        with Transfer(total, label, self._remote.threads) as self._transfer:
            self._fetch = Fetch(self._folder, self._remote, self._transfer.advance)
            others = _listed_otherwise(self._folder, shards)
            taken = self._transfer.each(self._one, [shard for shard in shards if shard.file not in others])
            if others:
                (self._folder / manifests.NAME).unlink()
                lacking.sync_directory(self._folder)
                taken += self._transfer.each(self._one, [shard for shard in shards if shard.file in others])
        return sum(taken)

    def _one(self, shard: ShardEntry) -> int:
        """Have a file under its name and return the bytes that were taken for it."""
        if _is_here(self._folder / shard.file, shard):
            self._transfer.advance(shard.bytes)
            return 0
        return self._fetch.take(shard, replace=True)


def _find(remote: Remote, identity: str, name: str) -> Manifest:
    """Return the manifest to pull: the one that is published, or the one of that id."""
    data, where = remote.state().data, remote.where(manifests.NAME)
    if not identity:
        if data is None:
            raise CacheError(f"there is no cache at {remote.url}: no {manifests.NAME} in it.{hint(remote, name)}")
        return manifests.read(data, where)
    copy = manifests.copy_of(identity)
    if (kept := remote.read(copy, manifests.MAX_BYTES)) is not None:
        data, where = kept, remote.where(copy)
    if data is None or (found := manifests.read(data, where)).id != identity:
        there = f"cache {found.id} is there, not" if data is not None else "there is no cache"
        raise CacheError(f"{remote.url}: {there} {identity}. Ask whoever gave you the id where that cache is")
    return found


def hint(remote: Remote, name: str) -> str:
    """Return what may be wrong where nothing is published at a remote: what follows that sentence."""
    with contextlib.suppress(CacheError):
        if name and remote.read(f"{name}/{manifests.NAME}", manifests.MAX_BYTES) is not None:
            return f" Did you mean {remote.where(name)}?"
    found = [one for one in names(remote.path) if exists(remote.path / one / manifests.NAME)] if remote.path else []
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return f" Caches there: {', '.join(map(remote.where, found[:SHOWN]))}{more}"
    return " Was the push finished? Is the URL the one that was pushed to?"


def _with_what_is_here(
    folder: Path, whole: Manifest, parts: list[PartName], url: str, *, replace: bool
) -> list[PartName]:
    """Return the parts that will be here: those asked for and those of the same cache that are here already."""
    if replace or not exists(folder / manifests.NAME):
        return parts
    try:
        here = manifests.load(folder)
        identity = partial_cache.whole_manifest(folder, here).id
    except DeniedError:
        raise
    except CacheError as error:
        raise CacheError(f"{error}; or replace it with the cache of {url}: melcache pull --replace") from error
    of_whole = here.parts.keys() <= whole.parts.keys() and partial_cache.take(whole, here.parts).id == here.id
    if not of_whole:
        raise CacheError(
            f"{folder} is cache {identity}, {url} has {whole.id}. Pull it into another folder, or replace the "
            "one here: melcache pull --replace"
        )
    return [part for part in whole.parts if part in parts or part in here.parts]


def _listed_otherwise(folder: Path, shards: Sequence[ShardEntry]) -> set[str]:
    """Return the files that the manifest here lists with other bytes."""
    try:
        here = {shard.file: shard.sha256 for shard in manifests.load(folder).shards}
    except CacheError:
        return set()
    return {shard.file for shard in shards if here.get(shard.file, shard.sha256) != shard.sha256}


def _is_here(path: Path, shard: ShardEntry) -> bool:
    """Return whether a file is here already, byte for byte."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_size != shard.bytes:
            return False
        with store.open_shard(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256
    except OSError:
        return False


def _write(folder: Path, whole: Manifest, manifest: Manifest, signature: bytes | None) -> None:
    """Write what makes the files a cache, the manifest last."""
    if manifest is not whole:  # the proof that this is a part of it
        store.publish(folder / manifests.copy_of(whole.id), manifests.written(whole.as_json()), replace=True)
    if signature is not None:
        store.publish(folder / manifests.signature_of(whole.id), signature, replace=True)
    store.publish(folder / manifests.NAME, manifests.written(manifest.as_json()), replace=True)


def _bytes(shards: Sequence[ShardEntry]) -> int:
    return sum(shard.bytes for shard in shards)
