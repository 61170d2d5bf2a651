"""manifest.json: what a cache holds, byte for byte; read as if a stranger had written it.

The cache id is the sha256 of the canonical manifest without `id`, `provenance` and `digest`; `digest` covers
everything but itself, so that a flipped bit in the provenance is noticed too. `seal`, `check`, `parse` and `written`
are about its JSON; who reads a manifest gets a `Manifest`.
"""

from pathlib import Path
from typing import Any

from cache import fingerprint, store
from cache.manifests.checks import MAX_SIGNS, check, parse
from cache.manifests.entries import Manifest
from cache.manifests.fields import TEXT, is_text
from common.errors import CacheError, ConfigError
from common.paths import MANIFEST, exists

__all__ = ["MAX_SIGNS", "Manifest", "check", "parse"]

NAME = MANIFEST
COPIES = "manifests"  # the folder of copies that stay when another manifest is published, and of signatures
MAX_BYTES = 32 << 20
MAX_SHARDS = 7_000  # that an extraction makes, so that they fit in
UNHASHED = ("id", "provenance", "digest")


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its `id` and `digest` filled in."""
    identity = fingerprint.digest({key: value for key, value in manifest.items() if key not in UNHASHED})
    named = {key: value for key, value in manifest.items() if key != "digest"} | {"id": identity}
    return named | {"digest": fingerprint.digest(named)}


def save(folder: Path, manifest: dict[str, Any]) -> str:
    """Check, seal and publish a manifest; return the cache id.  It is the last file written."""
    sealed = seal(manifest)
    check(parse(written(sealed), str(folder / NAME)), str(folder / NAME))  # what no reader takes is not written
    store.publish(folder / NAME, written(sealed), replace=True)
    return str(sealed["id"])


def foresee(about: dict[str, Any]) -> None:
    """Raise ConfigError for a text that no manifest may hold: before hours of work, not when the manifest is saved.

    Names, licences and sources are a user's or a release's, as warnings and what was counted may be.
    """
    texts = [(f"the dataset's {field}", text) for field, text in about["dataset"].items()]
    texts += [("a warning", text) for text in about["warnings"]] + [("a count", text) for text in about["coverage"]]
    for what, text in texts:
        if not is_text(text):
            raise ConfigError(
                f"{what} is {ascii(text)[:80]}, which no manifest may hold: expected {TEXT:,} characters at most, all "
                "of which print"
            )


def load(folder: Path) -> Manifest:
    """Return the checked manifest of a cache directory.  Raises CacheError for anything that is not one."""
    path = folder / NAME
    if not exists(path):
        raise CacheError(f"no {NAME} in {folder}/: not a cache, or its extraction has not finished")
    return read(store.read_regular(path, MAX_BYTES), str(path))


def read(data: bytes, where: str) -> Manifest:
    """Return the checked manifest of these bytes.  Raises CacheError for anything that is not one."""
    found = parse(data, where)
    check(found, where)
    if data != written(found) or seal(found) != found:
        raise CacheError(f"{where} was changed after it was written: its digest does not match. Get it again")
    return Manifest.of(found)


def written(sealed: dict[str, Any]) -> bytes:
    """Return the bytes of a sealed manifest's file."""
    return fingerprint.canonical(sealed) + b"\n"


def copy_of(identity: str) -> str:
    """Return the name of the copy of a manifest, by cache id."""
    return f"{COPIES}/{identity}.json"


def signature_of(identity: str) -> str:
    """Return the name of the signature of a cache id."""
    return f"{COPIES}/{identity}.sig"
