"""What has been computed already, elsewhere: the shards that any manifest at a remote lists."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xxhash

from cache import manifests
from cache.manifests.entries import Manifest, ShardEntry
from cache.names import ColumnName
from cache.remotes.base import Remote, SlowError
from common.errors import CacheError

COPY = re.compile(rf"{manifests.COPIES}/[0-9a-f]{{64}}\.json")
MOST_COPIES = 1_000  # manifests of earlier caches that are read: a year has 365 days
LARGEST = 1 << 30  # bytes of a column
Trust = Callable[[Manifest], bool]  # whether what a manifest lists may be taken


@dataclass(frozen=True)
class Listed:
    """A shard's manifest entry, and the manifest that lists it."""

    entry: ShardEntry
    manifest: Manifest

    @property
    def seconds(self) -> float | None:
        """How long computing it took, by the rate that the manifest notes of its part."""
        return self.manifest.provenance.seconds_of(self.entry.part, self.entry.rows)


def shards(
    remote: Remote,
    names: Iterable[str],
    listing: dict[str, int],
    published: Manifest | None = None,
    trusted: Trust = lambda manifest: True,
) -> dict[str, Listed]:
    """Return, by file name, those shards that a `trusted` manifest there lists and that are there.

    A name holds 12 digits of a shard's key: compare `key` before trusting one. The `published` manifest is asked
    first, then the copies of all that ever were, until every name in `listing` is known.
    """
    wanted = listing.keys() & set(names)
    found: dict[str, Listed] = {}
    if not wanted:
        return found
    for manifest in filter(trusted, manifests_of(remote, listing, published)):
        for entry in manifest.shards:
            if entry.file in wanted:
                found.setdefault(entry.file, Listed(entry, manifest))
        if wanted == found.keys():
            break
    return found


def column(remote: Remote, manifest: Manifest, name: str, largest: int = LARGEST) -> np.ndarray:
    """Return one column (n, ...) of a cache at a remote, no other byte is read.

    Raises CacheError if it is damaged, not there, or has more than `largest` bytes.
    """
    part, short = ColumnName(name).apart()
    if (spec := manifest.column(name)) is None:
        raise CacheError(f"the cache at {remote.url} has no {name}")
    shards, width = manifest.shards_of(part), spec.row_bytes
    if (held := width * sum(shard.rows for shard in shards)) > largest:
        raise CacheError(f"{name} of the cache at {remote.url} has {held:,} bytes, more than the {largest:,} expected")
    pieces = [_piece(remote, shard, short, width) for shard in shards]
    return np.frombuffer(b"".join(pieces), spec.dtype).reshape(-1, *spec.shape)


def _piece(remote: Remote, shard: ShardEntry, column: str, width: int) -> bytes:
    """Return the bytes of a column, `width` a row, in one shard."""
    place, step = shard.columns[column], remote.block_size
    begin, end = place.offset, place.offset + shard.rows * width
    data = b"".join(remote.block(shard.file, at, min(step, end - at)) for at in range(begin, end, step))
    if xxhash.xxh3_128_hexdigest(data) != place.xxh3:
        raise CacheError(f"{remote.where(shard.file)} is not what its manifest lists")
    return data


def manifests_of(remote: Remote, listing: dict[str, int], published: Manifest | None) -> Iterator[Manifest]:
    """Yield the published manifest, then those of all caches that ever were there.  Raises SlowError."""
    if published is not None:
        yield published
    for name in itertools.islice(filter(COPY.fullmatch, listing), MOST_COPIES):
        try:
            found = manifests.read(remote.read(name, manifests.MAX_BYTES) or b"", remote.where(name))
        except SlowError:  # so will the others be
            raise
        except CacheError:  # a damaged copy tells nothing
            continue
        yield found
