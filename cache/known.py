"""What has been computed already, elsewhere: the shards that any manifest at a remote lists."""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from cache import manifest as manifests
from cache.remotes.base import Remote
from cache.schema import split_column
from common.errors import CacheError

COPY = re.compile(rf"{manifests.COPIES}/[0-9a-f]{{64}}\.json")


@dataclass(frozen=True)
class Listed:
    """A shard's manifest entry, and the manifest that lists it."""

    entry: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """How long computing it took, by the rate that the manifest notes of its part."""
        return seconds(self.manifest, self.entry["part"], self.entry["rows"])


def shards(
    remote: Remote, names: Iterable[str], listing: dict[str, int], published: dict[str, Any] | None = None
) -> dict[str, Listed]:
    """Return, by file name, those shards that a manifest there lists and that are there.

    A name holds 12 digits of a shard's key: compare `key` before trusting one. The `published` manifest is asked
    first, then the copies of all that ever were, until every name in `listing` is known.
    """
    wanted = listing.keys() & set(names)
    found: dict[str, Listed] = {}
    if not wanted:
        return found
    for manifest in manifests_of(remote, listing, published):
        for entry in manifest["shards"]:
            if entry["file"] in wanted:
                found.setdefault(entry["file"], Listed(entry, manifest))
        if wanted == found.keys():
            break
    return found


def seconds(manifest: dict[str, Any], part: str, rows: int) -> float | None:
    """Return how long computing so many rows of a part took, by what a manifest notes; None where it notes nothing."""
    noted = manifest["provenance"].get("parts", {}).get(part)
    return noted["seconds"] * rows / noted["rows"] if noted and noted["rows"] else None


def column(remote: Remote, manifest: dict[str, Any], name: str) -> np.ndarray:
    """Return one column (n, ...) of a cache at a remote, no other byte is read.  Raises CacheError if it is damaged."""
    part, short = split_column(name)
    spec, pieces = manifest["parts"][part]["columns"][short], []
    for entry in manifest["shards"]:
        if entry["part"] == part:
            place, shape = entry["columns"][short], (entry["rows"], *spec["shape"])
            begin, end = place["offset"], place["offset"] + math.prod(shape) * np.dtype(spec["dtype"]).itemsize
            step = remote.block_size
            data = b"".join(remote.block(entry["file"], at, min(step, end - at)) for at in range(begin, end, step))
            if xxhash.xxh3_128_hexdigest(data) != place["xxh3"]:
                raise CacheError(f"{remote.where(entry['file'])} is not what its manifest lists")
            pieces.append(np.frombuffer(data, spec["dtype"]).reshape(shape))
    return np.concatenate(pieces)


def manifests_of(remote: Remote, listing: dict[str, int], published: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the published manifest, then those of all caches that ever were there."""
    if published is not None:
        yield published
    for name in filter(COPY.fullmatch, listing):
        with contextlib.suppress(CacheError):  # a damaged copy tells nothing
            yield manifests.read(remote.read(name, manifests.MAX_BYTES) or b"", remote.where(name))
