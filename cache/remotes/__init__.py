"""Where caches lie elsewhere: a directory, an object store or a Hub repository, by URL."""

from pathlib import Path
from urllib.parse import urlsplit

from cache.remotes.base import Remote
from common.errors import ConfigError


def open(url: str) -> Remote:
    """Return the remote of a URL: a directory, s3://, gs:// or hf://.  Raises ConfigError for any other."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        from cache.remotes.folder import Folder

        return Folder(Path(rest if separator else url).expanduser())
    if "@" in urlsplit(url).netloc or "?" in url or "#" in url:
        raise ConfigError(
            f"the {scheme}:// URL holds a user, a password, ? or #. URLs stand in shell histories and process lists: "
            "put credentials where the store's own tools look for them, and name only the place"
        )
    if not rest.strip("/"):
        raise ConfigError(f"{url} names no place: give a bucket and a folder, such as {scheme}://team/caches/demo")
    if scheme == "hf":
        from cache.remotes.hub import Hub

        return Hub(url)
    if scheme == "s3":
        from cache.remotes.s3 import S3

        return S3(url)
    if scheme in ("gs", "gcs"):
        from cache.remotes.gcs import Gcs

        return Gcs(url)
    if scheme == "memory":
        from cache.remotes.objects import Memory

        return Memory(url)
    raise ConfigError(f"{scheme}:// is none of s3://, gs://, hf://datasets/ and a directory: cannot use {url}")
