"""Where caches lie elsewhere: a directory, an object store or a Hub repository, by URL."""

from pathlib import Path

from cache.remotes.base import Remote
from common import places


def open(place: str, name: str | None = None) -> Remote:
    """Return the remote of a place, as a user wrote it for the cache `name` (common.places).  Raises ConfigError."""
    url = places.remote(place, name)
    scheme, separator, _ = url.partition("://")
    if not separator:
        from cache.remotes.folder import Folder

        return Folder(Path(url))
    if scheme == "hf":
        from cache.remotes.hub import Hub

        return Hub(url)
    if scheme == "s3":
        from cache.remotes.s3 import S3

        return S3(url)
    if scheme in ("gs", "gcs"):
        from cache.remotes.gcs import Gcs

        return Gcs(url)
    from cache.remotes.object_store import Memory

    return Memory(url)
