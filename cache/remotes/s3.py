"""Amazon S3, and stores that speak like it (AWS_ENDPOINT_URL), through s3fs."""

import contextlib
from collections.abc import Iterator
from typing import Any

from cache.remotes.base import Source, no_connection, words
from cache.remotes.object_store import Objects
from cache.remotes.patience import Came
from common.errors import ConfigError
from common.foreign import shell

PARTIAL = 206
NOTE = "sha256"  # the metadata field in which an upload says what it holds
BUSY = ("ConditionalRequestConflict", "OperationAborted", "SlowDown", "ServiceUnavailable", "InternalError", "503")


class S3(Objects):
    """A prefix in a bucket; versions are ETags.  A file of more than a block is uploaded in parts, seen when whole."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            import s3fs
            from aiohttp import ClientError
            from botocore import exceptions, parsers
        except ImportError:
            raise ConfigError("s3:// needs s3fs: make setup EXTRAS=s3, or pip install s3fs") from None
        self._bucket, _, self._prefix = self._root.partition("/")
        config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}  # s3fs tries 5 times
        self._fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
        self._no_credentials = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
        theirs = (exceptions.HTTPClientError, exceptions.ConnectionError, ClientError)
        self._no_connection = (*theirs, ConnectionError, TimeoutError)
        unreadable = parsers.ResponseParserError
        self.failures = (OSError, exceptions.BotoCoreError, exceptions.ClientError, ClientError, unreadable)

    def passing(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself."""
        return isinstance(error, self._no_connection) or _code(error) in BUSY

    def reason(self, error: BaseException) -> str:
        """Return in words what a failure means, and what to do."""
        if isinstance(error, self._no_credentials):
            return "no credentials. Set AWS_PROFILE, or run aws configure; for a public bucket FSSPEC_S3_ANON=true"
        if isinstance(error, PermissionError):
            return f"{words(error)}. Do the credentials (AWS_PROFILE) allow this?"
        if self._lacks_place(error):
            return f"there is no bucket {self._bucket}. Correct the URL, or create it: aws s3 mb {shell(f's3://{self._bucket}')}"
        if isinstance(error, self._no_connection):
            return no_connection(error)
        return f"{words(error)}. Check the URL, AWS_REGION and AWS_ENDPOINT_URL, and run it again"

    def stamp(self, name: str, size: int) -> str:
        """Return the hash that the upload noted, else that of the bytes."""
        head = self.ask("read", lambda: self._fs.call_s3("head_object", **self._key(name)))
        return head.get("Metadata", {}).get(NOTE) or self.sha256(name, size)

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all, a large one in parts."""
        if source.size <= self.block_size:
            return super().create(name, source, mend=mend)
        key, parts, done = self._key(name), [], False
        key["UploadId"] = self._call("create_multipart_upload", "UploadId", **key, Metadata={NOTE: source.sha256})
        try:
            for number, block in enumerate(source.blocks(self.block_size), 1):
                tag = self._call("upload_part", "ETag", len(block), **key, PartNumber=number, Body=block)
                parts.append({"PartNumber": number, "ETag": tag})
            whole = {**key, "MultipartUpload": {"Parts": parts}, **({} if mend else {"IfNoneMatch": "*"})}
            reply = self.ask("upload to", lambda: self._kept("complete_multipart_upload", whole), source.size)
            done = reply is not None
        finally:
            if not done:
                with contextlib.suppress(*self.failures):  # what failed before says why
                    self._fs.call_s3("abort_multipart_upload", **key)
        return done

    def _get(self, name: str, start: int, end: int, came: Came) -> tuple[bytes, str]:
        from fsspec.asyn import sync

        async def get() -> tuple[bytes, str]:
            reply = await self._fs._call_s3("get_object", **self._key(name), Range=f"bytes={start}-{end - 1}")
            body, data = reply["Body"], bytearray()
            try:
                if start and reply["ResponseMetadata"]["HTTPStatusCode"] != PARTIAL:
                    raise OSError(f"{self.where(name)}: the server sends whole files only")
                while len(data) < end - start and (chunk := await body.read(end - start - len(data))):
                    data += chunk
                    came(len(chunk))
            finally:
                body.close()  # a server that ignores the range is not read to its end
            return bytes(data), reply.get("ETag", "")

        found: tuple[bytes, str] = sync(self._fs.loop, get)
        return found

    def _put(self, name: str, data: bytes, condition: str | None, note: str = "") -> str | None:
        match = {} if condition is None else {"IfMatch": condition} if condition else {"IfNoneMatch": "*"}
        metadata = {"Metadata": {NOTE: note}} if note else {}
        reply = self._kept("put_object", {**self._key(name), "Body": data, **metadata, **match})
        return None if reply is None else str(reply.get("ETag", ""))

    def _rm(self, name: str) -> None:
        self._fs.call_s3("delete_object", **self._key(name))

    def _ls(self, path: str, begins: str = "") -> Iterator[tuple[str, int, str]]:
        bucket, _, prefix = path.partition("/")
        place = {"Bucket": bucket, "Delimiter": "/", "Prefix": f"{prefix}/".lstrip("/") + begins}
        more: dict[str, str] = {}
        while True:
            page = self._fs.call_s3("list_objects_v2", **place, **more)
            yield from ((entry["Key"], entry["Size"], entry.get("ETag", "")) for entry in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _lacks_place(self, error: BaseException) -> bool:
        return _code(error) == "NoSuchBucket"

    def _call(self, method: str, field: str, sending: int = 0, **arguments: Any) -> Any:
        """Return a field of the answer to an upload."""
        return self.ask("upload to", lambda: self._fs.call_s3(method, **arguments)[field], sending)

    def _kept(self, method: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None where the condition does not hold."""
        try:
            reply: dict[str, Any] = self._fs.call_s3(method, **arguments)
        except OSError as error:
            if _code(error) == "PreconditionFailed" or ("IfMatch" in arguments and _code(error) == "NoSuchKey"):
                return None
            raise
        return reply

    def _key(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}


def _code(error: BaseException) -> str:
    """Return S3's name of an error, which s3fs keeps in the cause."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
