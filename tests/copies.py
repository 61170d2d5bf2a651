"""What a folder with a cache holds, whether it is a sound copy of another, how small files at a remote change hands."""

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


def hand_over(place):
    """Let a small file at a remote change hands by conditions; it is gone in the end."""
    first = place.swap("meeting/a-x.claim", b"1", "")
    assert first and place.swap("meeting/a-x.claim", b"2", "") is None
    assert place.versions("meeting/a-", 9) == {"meeting/a-x.claim": first}
    second = place.swap("meeting/a-x.claim", b"2", first)
    assert second and place.swap("meeting/a-x.claim", b"3", first) is None
    assert place.read("meeting/a-x.claim", 9) == b"2" and place.versions("meeting/b-", 9) == {}
    assert place.listing() == {}, "it is no file of a cache"
    place.remove("meeting/a-x.claim")
    place.remove("meeting/a-x.claim")
    assert place.swap("meeting/a-x.claim", b"3", second) is None
