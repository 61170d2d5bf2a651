"""Google Cloud Storage, through gcsfs."""

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from cache.remotes.base import Source, no_connection, words
from cache.remotes.object_store import Objects
from cache.remotes.patience import Came
from common.errors import ConfigError

PARTIAL, TRIES, ERROR_BYTES = 206, 6, 1 << 16
NOTE = "sha256"  # the metadata field in which an upload says what it holds


class Gcs(Objects):
    """A prefix in a bucket; versions are generations.  A file is uploaded in blocks, seen when whole."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            from aiohttp import ClientError
            from gcsfs.core import GCSFileSystem
            from gcsfs.retry import ChecksumError, HttpError, retry_request, validate_response
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            raise ConfigError("gs:// needs gcsfs: make setup EXTRAS=gcs, or pip install gcsfs") from None
        logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it prints the traceback of what it raises
        self._bucket, _, self._prefix = self._root.partition("/")
        self._http_error, self._auth_error, self._client_error = HttpError, GoogleAuthError, ClientError
        self._again, self._refuse = retry_request(retries=TRIES), validate_response
        self.failures = (OSError, HttpError, GoogleAuthError, ClientError, ChecksumError, ValueError, RuntimeError)
        self._fs = self.ask("open", lambda: GCSFileSystem(skip_instance_cache=True, use_listings_cache=False))

    def passing(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself: none, it has been tried six times by then."""
        return False

    def reason(self, error: BaseException) -> str:
        """Return in words what a failure means, and what to do."""
        if isinstance(error, self._auth_error) or getattr(error, "code", None) == 401:
            return f"no credentials ({words(error)}). Run: gcloud auth application-default login"
        if isinstance(error, FileNotFoundError):
            return (
                f"there is no bucket {self._bucket}, or these credentials may not see it. Correct the URL, or create it"
            )
        if "Forbidden" in str(error):
            return f"{words(error)}. Do the credentials (gcloud auth list) allow this?"
        if isinstance(error, (self._client_error, ConnectionError, TimeoutError)):
            return no_connection(error)
        return f"{words(error)}. Check the URL and run it again"

    def stamp(self, name: str, size: int) -> str:
        """Return the hash that the upload noted, else that of the bytes."""
        about = self.ask(
            "read", lambda: self._fs.call("GET", "b/{}/o/{}", self._bucket, self._key(name), json_out=True)
        )
        return about.get("metadata", {}).get(NOTE) or self.sha256(name, size)

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all: the last block makes it appear, and is sent only if all are right."""
        condition = {} if mend else {"ifGenerationMatch": "0"}
        try:
            begun = self._upload(name, uploadType="resumable", json={"metadata": {NOTE: source.sha256}}, **condition)
            place, position = self.ask("upload to", lambda: begun[0]["Location"]), 0
            for block in source.blocks(self.block_size):
                span = f"bytes {position}-{position + len(block) - 1}/{source.size}"
                self._send("PUT", place, len(block), headers={"Content-Range": span}, data=block)
                position += len(block)
        except FileExistsError:  # what gcsfs makes of 412, of any condition
            return False
        return True

    def _get(self, name: str, start: int, end: int, came: Came) -> tuple[bytes, str]:
        from fsspec.asyn import sync

        where = self._fs.url(f"{self._bucket}/{self._key(name)}")

        async def get() -> tuple[bytes, str]:
            await self._fs._set_session()
            headers = self._fs._get_headers({"Range": f"bytes={start}-{end - 1}"})
            async with self._fs.session.get(where, headers=headers, timeout=self._fs.requests_timeout) as reply:
                if reply.status >= 400:
                    self._refuse(reply.status, await reply.content.read(ERROR_BYTES), where)
                if start and reply.status != PARTIAL:
                    raise OSError(f"{self.where(name)}: the server sends whole files only")
                data = bytearray()
                async for chunk in reply.content.iter_any():
                    data += chunk
                    came(len(chunk))
                    if len(data) >= end - start:  # of a server that ignores the range
                        break
                return bytes(data[: end - start]), reply.headers.get("X-Goog-Generation", "")

        found: tuple[bytes, str] = sync(self._fs.loop, self._again(get))
        return found

    def _put(self, name: str, data: bytes, condition: str | None, note: str = "") -> str | None:
        match = {} if condition is None else {"ifGenerationMatch": condition or "0"}
        try:
            about = self._upload(name, uploadType="media", data=data, json_out=True, **match)
        except FileExistsError:
            return None
        return str(about.get("generation", ""))

    def _rm(self, name: str) -> None:
        self._fs.call("DELETE", "b/{}/o/{}", self._bucket, self._key(name))

    def _ls(self, path: str, begins: str = "") -> Iterator[tuple[str, int, str]]:
        bucket, _, prefix = path.partition("/")
        place = {"delimiter": "/", "prefix": f"{prefix}/".lstrip("/") + begins}
        more: dict[str, str] = {}
        while True:
            page = self._fs.call("GET", "b/{}/o", bucket, **place, **more, json_out=True)
            yield from ((entry["name"], entry["size"], entry.get("generation", "")) for entry in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            more = {"pageToken": page["nextPageToken"]}

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".lstrip("/")

    def _upload(self, name: str, **arguments: Any) -> Any:
        place = f"{self._fs._location}/upload/storage/v1/b/{quote(self._bucket)}/o"
        return self._send("POST", place, len(arguments.get("data", b"")), name=self._key(name), **arguments)

    def _send(self, method: str, place: str, sending: int, **arguments: Any) -> Any:
        return self.ask("upload to", lambda: self._fs.call(method, place, **arguments), sending)
