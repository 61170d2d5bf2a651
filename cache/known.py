"""What has been computed already, elsewhere: the shards that any manifest at a remote lists."""

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from cache import manifest as manifests
from cache.remotes.base import Remote
from common.errors import CacheError

COPY = re.compile(rf"{manifests.COPIES}/[0-9a-f]{{64}}\.json")


def shards(
    remote: Remote, names: Iterable[str], listing: dict[str, int], published: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the manifest entries, by file name, of those shards that a manifest there lists and that are there.

    A name holds 12 digits of a shard's key: compare `key` before trusting one. The `published` manifest is asked
    first, then the copies of all that ever were, until every name in `listing` is known.
    """
    wanted, found = listing.keys() & set(names), {}

    def learn(manifest: dict[str, Any]) -> None:
        for shard in manifest["shards"]:
            if shard["file"] in wanted:
                found.setdefault(shard["file"], shard)

    if published is not None:
        learn(published)
    for name in filter(COPY.fullmatch, listing):
        if wanted == found.keys():
            break
        with contextlib.suppress(CacheError):  # a damaged copy tells nothing
            learn(manifests.read(remote.read(name, manifests.MAX_BYTES) or b"", remote.where(name)))
    return found
