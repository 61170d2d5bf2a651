"""What a folder with a cache holds, and whether it is a sound copy of another one."""

import melcache
from cache import manifests
from cache.checks.verify import verify


def shard_sizes(folder):
    """The bytes of each shard by file name, as the manifest lists them."""
    return {shard.file: shard.bytes for shard in manifests.load(folder).shards}


def is_copy(folder, other):
    """Whether a folder holds the cache of another one, each byte as written."""
    same_id = melcache.open(folder).id == melcache.open(other).id
    return same_id and not [shard for shard in verify(folder) if shard.problem]
