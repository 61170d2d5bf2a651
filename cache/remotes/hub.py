"""Dataset repositories of the Hugging Face Hub, through huggingface_hub: one push is one commit."""

import contextlib
from collections.abc import Iterator
from typing import Any

from cache import manifests, store
from cache.remotes.base import CARD, MovedError, Publication, Remote, Source, State, counted, no_connection, words
from cache.remotes.patience import LEAST, Came
from common.errors import CacheError, ConfigError
from common.foreign import shell

PARTIAL = 206
COMMIT = 10  # times the seconds of other answers that one of many files may take
TOO_EARLY = (409, 412)  # what the Hub answers where the parent commit is not the last one


class Hub(Remote):
    """A repository or a folder in it, read at the commit that `state` found; versions are commits."""

    threads = 4
    seen_when_published = True
    front_matter = True

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        try:
            import httpx2
            import huggingface_hub as hub
            from huggingface_hub import errors, utils
            from huggingface_hub.hf_api import RepoFile
        except ImportError:
            raise ConfigError(
                "hf:// needs huggingface_hub: make setup EXTRAS=hf, or pip install huggingface_hub"
            ) from None
        kind, _, rest = self.url.removeprefix("hf://").partition("/")
        owner, _, rest = rest.partition("/")
        name, _, self._folder = rest.partition("/")
        name, _, revision = name.partition("@")
        if kind != "datasets" or not owner or not name:
            raise ConfigError(f"{url} is not a dataset repository: hf://datasets/org/name, or .../name/folder")
        self._hub, self._utils, self._errors, self._file = hub, utils, errors, RepoFile
        self._http_error = httpx2.HTTPError
        self._repo, self._branch = f"{owner}/{name}", revision or "main"
        self._api = hub.HfApi()
        self._commit = self._branch  # until `state` has asked
        self._added: list[Any] = []  # uploaded, to be seen with the next commit
        self.failures = (OSError, httpx2.HTTPError, httpx2.InvalidURL, ValueError, RuntimeError)
        utils.disable_progress_bars()  # melcache shows its own

    def passing(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself: none, huggingface_hub has tried often by then."""
        return False

    def reason(self, error: BaseException) -> str:
        """Return in words what a failure means, and what to do."""
        if isinstance(error, RuntimeError) and error.__cause__ is not None:  # "Error while uploading", from why
            error = error.__cause__
        errors, status = self._errors, _status(error)
        if isinstance(error, errors.GatedRepoError):
            return "the repository is gated. Ask for access on its page, and log in: hf auth login"
        if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
            return (
                "no such dataset repository, or this login may not see it. Log in with hf auth login, correct "
                f"the URL, or create it: hf repos create {shell(self._repo)} --repo-type dataset"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"the repository has no branch {self._branch}. Correct the URL"
        if isinstance(error, (self._http_error, ConnectionError, TimeoutError)) and status is None:
            return no_connection(error)
        return f"{words(error)}. Check the URL and run it again"

    def state(self) -> State:
        """Return what is published at the branch's last commit, which is what is read from now on."""
        about = self.ask("read", lambda: self._api.repo_info(self._repo, repo_type="dataset", revision=self._branch))
        self._commit = about.sha
        return State(self.read(manifests.NAME, manifests.MAX_BYTES), about.sha)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file, None where there is none."""
        missing = self._errors.EntryNotFoundError

        def get(came: Came) -> bytes | None:
            try:
                return self._get(name, 0, limit + 1, came)
            except missing:
                return None

        data = self.stream("read", get)
        if data is not None and len(data) > limit:
            raise CacheError(f"{self.where(name)} has more than the {limit:,} bytes that such a file may have")
        return data

    def listing(self) -> dict[str, int]:
        """Return the sizes of all files by name."""
        return {name: int(entry.size) for name, entry in self._entries().items()}

    def stamp(self, name: str, size: int) -> str:
        """Return the hash that the Hub keeps of a large file, else that of the bytes."""
        large = self._entries()[name].lfs
        return large.sha256 if large else self.sha256(name, size)

    def block(self, name: str, start: int, size: int) -> bytes:
        """Return exactly `size` bytes of a file from `start`."""
        block = self.stream("read", lambda came: self._get(name, start, start + size, came))
        if len(block) != size:
            raise CacheError(f"{self.where(name)} ends inside what its manifest lists: damaged")
        return block

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file's content; `publish` gives it its name.  What the Hub holds already is not sent again."""
        with store.open_shard(source.path):  # refuses what is not a regular file
            addition = self._hub.CommitOperationAdd(self._path(name), str(source.path))
        self.ask("upload to", lambda: self._preupload(addition), source.size)
        if addition.upload_info.sha256.hex() != source.sha256:
            raise source.damage()
        self._added.append(addition)
        source.advance(source.size)
        return True

    def publish(self, what: Publication, version: str) -> None:
        """Publish everything by one commit on top of the one that `state` found."""
        files = {
            manifests.copy_of(what.id): what.manifest,
            manifests.signature_of(what.id): what.signature,
            manifests.NAME: what.manifest,
            CARD: what.card,
        }
        small = [
            self._hub.CommitOperationAdd(self._path(name), data) for name, data in files.items() if data is not None
        ]
        try:
            self.ask("publish in", lambda: self._send([*self._added, *small], version), COMMIT * LEAST)
        except CacheError as error:
            if _status(error.__cause__) in TOO_EARLY:
                raise MovedError(f"{self.url} has changed") from error
            raise

    def _preupload(self, addition: Any) -> None:
        self._api.preupload_lfs_files(
            self._repo, [addition], repo_type="dataset", revision=self._branch, free_memory=False
        )

    def _send(self, operations: list[Any], parent: str) -> None:
        self._api.create_commit(
            self._repo,
            operations,
            commit_message="melcache push",
            repo_type="dataset",
            revision=self._branch,
            parent_commit=parent,
        )

    def _entries(self) -> dict[str, Any]:
        missing, found = self._errors.EntryNotFoundError, {}

        def entries() -> Iterator[tuple[str, int]]:
            for folder in (self._folder, self._path(manifests.COPIES)):
                with contextlib.suppress(missing):
                    for entry in self._api.list_repo_tree(
                        self._repo, folder or None, repo_type="dataset", revision=self._commit
                    ):
                        if isinstance(entry, self._file):
                            found[name := self._name(entry.path)] = entry
                            yield name, entry.size

        self.stream("list", lambda came: counted(entries(), came))
        return found

    def _get(self, name: str, start: int, end: int, came: Came) -> bytes:
        """Return at most end - start bytes; more are never taken in."""
        url = self._hub.hf_hub_url(self._repo, self._path(name), repo_type="dataset", revision=self._commit)
        wanted = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._utils.http_stream_backoff("GET", url, headers={**self._utils.build_hf_headers(), **wanted}) as reply:
            self._utils.hf_raise_for_status(reply)
            if start and reply.status_code != PARTIAL:
                raise OSError(f"{self.where(name)}: the server sends whole files only")
            data = bytearray()
            for chunk in reply.iter_bytes():  # as it comes: in larger pieces a slow one would say nothing for long
                data += chunk
                came(len(chunk))
                if len(data) >= end - start:
                    break
        return bytes(data[: end - start])

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}".lstrip("/")

    def _name(self, path: str) -> str:
        return path.removeprefix(self._folder).lstrip("/")


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
