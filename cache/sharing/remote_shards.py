"""What has been computed already, elsewhere: the shards that any manifest at a remote lists."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from cache import manifests
from cache.names import ColumnName
from cache.remotes.base import Remote, SlowError
from common.errors import CacheError

COPY = re.compile(rf"{manifests.COPIES}/[0-9a-f]{{64}}\.json")
MOST_COPIES = 1_000  # manifests of earlier caches that are read: a year has 365 days
LARGEST = 1 << 30  # bytes of a column
Trust = Callable[[dict[str, Any]], bool]  # whether what a manifest lists may be taken


@dataclass(frozen=True)
class Listed:
    """A shard's manifest entry, and the manifest that lists it."""

    entry: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """How long computing it took, by the rate that the manifest notes of its part."""
        return seconds_of(self.manifest, self.entry["part"], self.entry["rows"])


def shards(
    remote: Remote,
    names: Iterable[str],
    listing: dict[str, int],
    published: dict[str, Any] | None = None,
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
        for entry in manifest["shards"]:
            if entry["file"] in wanted:
                found.setdefault(entry["file"], Listed(entry, manifest))
        if wanted == found.keys():
            break
    return found


def seconds_of(manifest: dict[str, Any], part: str, rows: int) -> float | None:
    """Return how long computing so many rows of a part took, by what a manifest notes; None where it notes nothing."""
    noted = manifest["provenance"].get("parts", {}).get(part)
    return noted["seconds"] * rows / noted["rows"] if noted and noted["rows"] else None


def column(remote: Remote, manifest: dict[str, Any], name: str, largest: int = LARGEST) -> np.ndarray:
    """Return one column (n, ...) of a cache at a remote, no other byte is read.

    Raises CacheError if it is damaged, not there, or has more than `largest` bytes.
    """
    part, short = ColumnName(name).apart()
    spec = manifest["parts"].get(part, {}).get("columns", {}).get(short)
    if spec is None:
        raise CacheError(f"the cache at {remote.url} has no {name}")
    shards = [shard for shard in manifest["shards"] if shard["part"] == part]
    width = math.prod(spec["shape"]) * np.dtype(spec["dtype"]).itemsize
    if (held := width * sum(shard["rows"] for shard in shards)) > largest:
        raise CacheError(f"{name} of the cache at {remote.url} has {held:,} bytes, more than the {largest:,} expected")
    pieces = [_piece(remote, shard, short, width) for shard in shards]
    return np.frombuffer(b"".join(pieces), spec["dtype"]).reshape(-1, *spec["shape"])


def _piece(remote: Remote, shard: dict[str, Any], column: str, width: int) -> bytes:
    """Return the bytes of a column, `width` a row, in one shard."""
    place, step = shard["columns"][column], remote.block_size
    begin, end = place["offset"], place["offset"] + shard["rows"] * width
    data = b"".join(remote.block(shard["file"], at, min(step, end - at)) for at in range(begin, end, step))
    if xxhash.xxh3_128_hexdigest(data) != place["xxh3"]:
        raise CacheError(f"{remote.where(shard['file'])} is not what its manifest lists")
    return data


def manifests_of(remote: Remote, listing: dict[str, int], published: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
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
