"""What every remote can do, and what lies there.

The layout is the local one, so that a directory is itself an openable cache, and beside it `manifests/` with a copy
of every manifest ever published. Nothing there is ever overwritten but manifest.json, the card and a signature: so
older caches stay whole, and a reader needs no lock.
"""

import contextlib
import hashlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cache import store
from cache.remotes import patience
from cache.remotes.patience import LEAST, WINDOW, Came, LateError
from common.errors import CacheError
from common.foreign import shell
from common.output import size as in_words

CARD = "README.md"
CARD_BYTES = 1 << 20
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
WAITS = (0.5, 2.0, 8.0)  # seconds before each new try of what may pass by itself
MAX_LISTED = 1_000_000  # files of a listing: a hostile one has no end
# what a client library raises at an answer that its authors did not expect: a field that is missing, XML that is none
STRANGE = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

# of URLs, from "://" on, so that nothing is read twice: a longer beginning would be looked for from each of its letters
_USER = re.compile(r"://(?:[^\s/@]*+@)++")
_QUERY = re.compile(r"(://[^\s?'\"]*+)(?:\?[^\s')\"]*+)?")

Result = TypeVar("Result")
Listed = TypeVar("Listed", int, str)


class MovedError(CacheError):
    """Someone else has published meanwhile."""


class SlowError(CacheError):
    """A remote brings so little that what it has is not worth waiting for."""


@dataclass(frozen=True)
class Source:
    """A local file of known content, to be uploaded; `advance` is told of the bytes read."""

    path: Path
    size: int
    sha256: str
    advance: Callable[[int], None]

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield the bytes, `size` at a time; the last block once all are known to be right.  Raises CacheError."""
        digest, position = hashlib.sha256(), 0
        with store.open_shard(self.path) as descriptor:
            while position < self.size:
                block = os.pread(descriptor, min(size, self.size - position), position)
                digest.update(block)
                position += len(block)
                if not block or (position == self.size and digest.hexdigest() != self.sha256):
                    raise self.damage()
                self.advance(len(block))
                yield block

    def damage(self) -> CacheError:
        """Return the error of a file that is not what it should be."""
        return CacheError(
            f"{self.path} is not what its manifest lists, so it is not uploaded. "
            f"Run: melcache verify {shell(self.path.parent)}"
        )


@dataclass(frozen=True)
class State:
    """What is published: the manifest's bytes, None where there is none, and what `publish` compares."""

    data: bytes | None
    version: str


@dataclass(frozen=True)
class Publication:
    """What `publish` writes: a copy by cache id and the signature before the manifest, the card after it.

    The copy is left as it is where it is there; a signature or card of None is not written.
    """

    id: str
    manifest: bytes
    signature: bytes | None
    card: bytes | None


class Remote(ABC):
    """One cache's place elsewhere.  Every method raises CacheError, one line with the URL and the next step."""

    threads = 8
    block_size = 8 << 20  # bytes asked for, or sent, at a time: what each thread holds in memory
    path: Path | None = None  # where it is a directory
    seen_when_published = False  # whether files that were uploaded are there only after `publish`
    front_matter = False  # whether the card begins with the YAML that the Hub reads
    failures: tuple[type[BaseException], ...] = (OSError,)  # what the library below raises

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def state(self) -> State:
        """Return what is published now."""

    @abstractmethod
    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file, None where there is none.  Raises CacheError if it has more than `limit` bytes."""

    @abstractmethod
    def listing(self) -> dict[str, int]:
        """Return the sizes of all files by name, `manifests/...` included."""

    @abstractmethod
    def block(self, name: str, start: int, size: int) -> bytes:
        """Return exactly `size` bytes of a file from `start`."""

    @abstractmethod
    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all.  One already there wins, False, unless `mend` says that it is damaged."""

    @abstractmethod
    def publish(self, what: Publication, version: str) -> None:
        """Publish a manifest if what is published still has the version.  Raises MovedError if it has not."""

    @abstractmethod
    def reason(self, error: BaseException) -> str:
        """Return in words what a failure means, and what to do."""

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """Keep what is there from being removed while a push goes by it."""
        return contextlib.nullcontext()

    def passing(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself."""
        return isinstance(error, (ConnectionError, TimeoutError))

    def sha256(self, name: str, size: int) -> str:
        """Return the hash of a file's first `size` bytes as they are now."""
        digest = hashlib.sha256()
        for start in range(0, size, self.block_size):
            digest.update(self.block(name, start, min(self.block_size, size - start)))
        return digest.hexdigest()

    def stamp(self, name: str, size: int) -> str:
        """Return the hash of a file as its upload noted it, else as it is."""
        return self.sha256(name, size)

    def where(self, name: str) -> str:
        """Return the address of a file, for people."""
        return f"{self.url.rstrip('/')}/{name}"

    def ask(self, doing: str, action: Callable[[], Result], sending: int = 0) -> Result:
        """Return what `action` returns, tried again where its failure may pass, as `stream`."""
        return self.stream(doing, lambda came: action(), sending)

    def stream(self, doing: str, action: Callable[[Came], Result], sending: int = 0) -> Result:
        """Return what `action` returns, tried again where its failure may pass; it tells of bytes as they come.

        `sending` bytes may take their time first. Raises SlowError where too few come, CacheError, and FileExistsError
        as it is: that one is an answer.
        """
        for wait in (*WAITS, None):
            try:
                return patience.within(action, sending)
            except FileExistsError:
                raise
            except LateError as error:
                raise SlowError(
                    f"cannot {doing} {self.url}: less than {in_words(LEAST)} came in {WINDOW:g} s. Check the network "
                    "and run the same command again; what arrived is kept"
                ) from error
            except self.failures as error:
                if wait is None or not self.passing(error):
                    raise CacheError(f"cannot {doing} {self.url}: {scrubbed(self.reason(error))}") from error
            except STRANGE as error:
                raise CacheError(
                    f"cannot {doing} {self.url}: an unexpected answer ({type(error).__name__}: "
                    f"{scrubbed(error)}). Is that the right URL?"
                ) from error
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


class Conditional(Remote):
    """A remote that writes a small file only where it still is as it was seen, so that of several exactly one does."""

    conditional = True  # whether it does; some stores that speak like it do not

    @abstractmethod
    def versions(self, prefix: str, most: int) -> dict[str, str]:
        """Return the versions of the files whose names begin so, as one listing tells them; "" where it tells none.

        What is looked for lies in one folder. Raises CacheError where there are more than `most`.
        """

    @abstractmethod
    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Write a small file in place of that version of it, "" for none; return its own, None where it is another."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a small file, if it is there."""

    def tidy(self, folder: str) -> None:
        """Remove a folder that holds nothing, where there are folders."""


def counted(files: Iterable[tuple[str, Listed]], came: Came, most: int = 0) -> dict[str, Listed]:
    """Return what is listed of files by name.

    Raises CacheError where there are more than `most`, by default than any remote of ours has.
    """
    most = most or MAX_LISTED
    found: dict[str, Listed] = {}
    for number, (name, listed) in enumerate(files):
        found[name] = listed
        came(LEAST)  # each is progress
        if number == most:
            raise CacheError(f"more than {most:,} files are listed there: this is not the place of one cache")
    return found


def no_connection(error: object) -> str:
    """Return what to do where a store cannot be reached."""
    return f"no connection ({words(error)}). Check the network and run the same command again; what arrived is kept"


def words(error: object) -> str:
    """Return an error's text as the beginning of a sentence."""
    return " ".join(str(error).split()).rstrip(".")


def scrubbed(error: object) -> str:
    """Return an error's text as one line without secrets: no query of a signed URL, no user info, no known token."""
    text = " ".join(str(error).split())
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return _QUERY.sub(r"\1", _USER.sub("://", text))[:400]
