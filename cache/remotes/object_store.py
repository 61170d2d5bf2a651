"""Object stores as remotes, through fsspec; and fsspec's memory, the example of one without conditional writes."""

import contextlib
import hashlib
from abc import abstractmethod
from collections.abc import Iterator

from cache import manifests
from cache.remotes.base import CARD, Conditional, MovedError, Publication, Source, State, counted
from cache.remotes.patience import Came
from common.errors import CacheError
from common.output import say

UNVERSIONED = "content "  # what the version of an object without one begins with, whose content stands for it


class Objects(Conditional):
    """A prefix in an object store.  A condition is None, "" for a name that must be free, or the version to replace."""

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        self._root = url.partition("://")[2].strip("/")

    @abstractmethod
    def _get(self, name: str, start: int, end: int, came: Came) -> tuple[bytes, str]:
        """Return at most end - start bytes and the version, "" if there is none.  Raises FileNotFoundError."""

    @abstractmethod
    def _put(self, name: str, data: bytes, condition: str | None, note: str = "") -> str | None:
        """Write a small object and return its version, "" if none is told; None where the condition does not hold.

        `note` is its hash.
        """

    @abstractmethod
    def _ls(self, path: str, begins: str = "") -> Iterator[tuple[str, int, str]]:
        """Yield name, size and version ("": not told) of the files directly under a path whose names begin so.

        Raises FileNotFoundError.
        """

    @abstractmethod
    def _rm(self, name: str) -> None:
        """Remove an object.  Raises FileNotFoundError, or not, where there is none."""

    def _lacks_place(self, error: BaseException) -> bool:
        """Return whether not only an object is missing, but the bucket."""
        return False

    def state(self) -> State:
        """Return what is published now."""
        found = self._small(manifests.NAME, manifests.MAX_BYTES)
        if found is None:
            return State(None, "")
        data, version = found
        return State(data, version or f"{UNVERSIONED}{hashlib.sha256(data).hexdigest()}")

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file, None where there is none."""
        found = self._small(name, limit)
        return None if found is None else found[0]

    def listing(self) -> dict[str, int]:
        """Return the sizes of all files by name."""
        return self.stream("list", lambda came: counted(self._files(), came))

    def block(self, name: str, start: int, size: int) -> bytes:
        """Return exactly `size` bytes of a file from `start`."""
        try:
            block, _ = self.stream("read", lambda came: self._get(name, start, start + size, came))
        except CacheError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise CacheError(f"{self.where(name)} is missing, though its manifest lists it") from error
            raise
        if len(block) != size:
            raise CacheError(f"{self.where(name)} ends inside what its manifest lists: damaged")
        return block

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all."""
        data = b"".join(source.blocks(self.block_size))
        condition = None if mend else ""
        return self.ask("upload to", lambda: self._put(name, data, condition, source.sha256), len(data)) is not None

    def publish(self, what: Publication, version: str) -> None:
        """Publish a manifest by a conditional write; without such writes, look before and after."""
        copy = manifests.copy_of(what.id)
        self._set(copy, what.manifest, "")
        if what.signature is not None:
            self._set(manifests.signature_of(what.id), what.signature, None)
        # some stores that speak S3 ignore conditions without a word: ask this one to create once more what is there
        versioned = self.conditional and not version.startswith(UNVERSIONED)
        if versioned and not self._set(copy, what.manifest, ""):
            if not self._set(manifests.NAME, what.manifest, version):
                raise MovedError(f"{self.url} has changed")
        else:
            say(f"{self.url} does not support conditional writes: make sure that no one else pushes to it now")
            self._compare_and_hope(what, version)
        if what.card is not None:
            self._set(CARD, what.card, None)

    def versions(self, prefix: str, most: int) -> dict[str, str]:
        """Return the versions of the files whose names begin so."""
        folder, _, begins = prefix.rpartition("/")

        def found() -> Iterator[tuple[str, str]]:
            with contextlib.suppress(FileNotFoundError):
                for name, _, version in self._ls(f"{self._root}/{folder}", begins):
                    yield f"{folder}/{name.rpartition('/')[2]}", version

        return self.stream("list", lambda came: counted(found(), came, most))

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Write a small file in place of that version."""
        return self.ask("write to", lambda: self._put(name, data, version), len(data))

    def remove(self, name: str) -> None:
        """Remove a small file, if it is there."""

        def gone() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._rm(name)

        self.ask("write to", gone)

    def _set(self, name: str, data: bytes, condition: str | None) -> bool:
        return self.ask("write to", lambda: self._put(name, data, condition), len(data)) is not None

    def _compare_and_hope(self, what: Publication, version: str) -> None:
        if self.state().version != version:
            raise MovedError(f"{self.url} has changed")
        self._set(manifests.NAME, what.manifest, None)
        if self.state().data != what.manifest:
            raise MovedError(f"{self.url} has changed")

    def _small(self, name: str, limit: int) -> tuple[bytes, str] | None:
        def get(came: Came) -> tuple[bytes, str] | None:
            try:
                return self._get(name, 0, limit + 1, came)
            except FileNotFoundError as error:
                if self._lacks_place(error):
                    raise
                return None

        found = self.stream("read", get)
        if found is not None and len(found[0]) > limit:
            raise CacheError(f"{self.where(name)} has more than the {limit:,} bytes that such a file may have")
        return found

    def _files(self) -> Iterator[tuple[str, int]]:
        for path, prefix in ((self._root, ""), (f"{self._root}/{manifests.COPIES}", f"{manifests.COPIES}/")):
            try:
                yield from ((prefix + name.rpartition("/")[2], int(count)) for name, count, _ in self._ls(path))
            except FileNotFoundError as error:
                if self._lacks_place(error):
                    raise


class Memory(Objects):
    """fsspec's memory file system, of this process alone: for tests."""

    conditional = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from fsspec.implementations.memory import MemoryFileSystem

        self._fs = MemoryFileSystem()

    def reason(self, error: BaseException) -> str:
        """Return the error's words."""
        return f"{error}"

    def _get(self, name: str, start: int, end: int, came: Came) -> tuple[bytes, str]:
        whole = self._fs.cat_file(f"/{self._root}/{name}")
        return whole[start:end], hashlib.sha256(whole).hexdigest()

    def _put(self, name: str, data: bytes, condition: str | None, note: str = "") -> str | None:
        try:
            self._fs.pipe_file(f"/{self._root}/{name}", data, mode="create" if condition == "" else "overwrite")
        except FileExistsError:
            return None
        return ""

    def _ls(self, path: str, begins: str = "") -> Iterator[tuple[str, int, str]]:
        entries = self._fs.ls(f"/{path}", detail=True)
        files = (entry for entry in entries if entry["type"] == "file")
        yield from ((e["name"], e["size"], "") for e in files if e["name"].rpartition("/")[2].startswith(begins))

    def _rm(self, name: str) -> None:
        self._fs.rm_file(f"/{self._root}/{name}")
