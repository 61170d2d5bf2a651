"""Amazon S3, and stores that speak like it (AWS_ENDPOINT_URL), through s3fs."""

import contextlib
from typing import Any

from cache.remotes.base import Source, no_connection, words
from cache.remotes.objects import Objects
from common.errors import ConfigError
from common.foreign import shell

NOTE = "sha256"  # the metadata field in which an upload says what it holds
BUSY = ("ConditionalRequestConflict", "OperationAborted", "SlowDown", "ServiceUnavailable", "InternalError", "503")


class S3(Objects):
    """A prefix in a bucket; versions are ETags.  A file of more than a block is uploaded in parts, seen when whole."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            import s3fs
            from aiohttp import ClientError
            from botocore import exceptions
        except ImportError:
            raise ConfigError("s3:// needs s3fs: make setup EXTRAS=s3, or pip install s3fs") from None
        self._bucket, _, self._prefix = self._root.partition("/")
        config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}  # s3fs tries 5 times
        self._fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
        self._no_credentials = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
        theirs = (exceptions.HTTPClientError, exceptions.ConnectionError, ClientError)
        self._no_connection = (*theirs, ConnectionError, TimeoutError)
        self.failures = (OSError, exceptions.BotoCoreError, exceptions.ClientError, ClientError)

    def passing(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself."""
        return isinstance(error, self._no_connection) or _code(error) in BUSY

    def reason(self, error: BaseException) -> str:
        """Return in words what a failure means, and what to do."""
        if isinstance(error, self._no_credentials):
            return "no credentials. Set AWS_PROFILE, or run aws configure; for a public bucket FSSPEC_S3_ANON=true"
        if isinstance(error, PermissionError):
            return f"{words(error)}. Are the credentials (AWS_PROFILE) those of someone who may?"
        if self._lacks_place(error):
            return f"there is no bucket {self._bucket}. Mend the URL, or create it: aws s3 mb {shell(f's3://{self._bucket}')}"
        if isinstance(error, self._no_connection):
            return no_connection(error)
        return f"{words(error)}. Check the URL, AWS_REGION and AWS_ENDPOINT_URL, and run it again"

    def stamp(self, name: str, size: int) -> str:
        """Return the hash that the upload noted, else that of the bytes."""
        head = self._call("read", "head_object", **self._key(name))
        return head["Metadata"].get(NOTE) or self.sha256(name, size)

    def create(self, name: str, source: Source, *, mend: bool = False) -> bool:
        """Upload a file whole or not at all, a large one in parts."""
        if source.size <= self.block_size:
            return super().create(name, source, mend=mend)
        key, parts, done = self._key(name), [], False
        begun = self._call("upload to", "create_multipart_upload", **key, Metadata={NOTE: source.sha256})
        key["UploadId"] = begun["UploadId"]
        try:
            for number, block in enumerate(source.blocks(self.block_size), 1):
                part = self._call("upload to", "upload_part", **key, PartNumber=number, Body=block)
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            whole = {**key, "MultipartUpload": {"Parts": parts}, **({} if mend else {"IfNoneMatch": "*"})}
            done = self.ask("upload to", lambda: self._kept("complete_multipart_upload", whole))
        finally:
            if not done:
                with contextlib.suppress(*self.failures):  # what failed before says why
                    self._fs.call_s3("abort_multipart_upload", **key)
        return done

    def _get(self, name: str, start: int, end: int) -> tuple[bytes, str]:
        from fsspec.asyn import sync

        async def get() -> tuple[bytes, str]:
            reply = await self._fs._call_s3("get_object", **self._key(name), Range=f"bytes={start}-{end - 1}")
            body, data = reply["Body"], bytearray()
            try:
                while len(data) < end - start and (chunk := await body.read(end - start - len(data))):
                    data += chunk
            finally:
                body.close()  # a server that ignores the range is not read to its end
            return bytes(data), reply["ETag"]

        return sync(self._fs.loop, get)

    def _put(self, name: str, data: bytes, condition: str | None, note: str = "") -> bool:
        match = {} if condition is None else {"IfMatch": condition} if condition else {"IfNoneMatch": "*"}
        metadata = {"Metadata": {NOTE: note}} if note else {}
        return self._kept("put_object", {**self._key(name), "Body": data, **metadata, **match})

    def _ls(self, path: str) -> list[dict[str, Any]]:
        return self._fs.ls(path, detail=True)

    def _lacks_place(self, error: BaseException) -> bool:
        return _code(error) == "NoSuchBucket"

    def _call(self, doing: str, method: str, **arguments: Any) -> dict[str, Any]:
        return self.ask(doing, lambda: self._fs.call_s3(method, **arguments))

    def _kept(self, method: str, arguments: dict[str, Any]) -> bool:
        try:
            self._fs.call_s3(method, **arguments)
        except OSError as error:
            if _code(error) == "PreconditionFailed" or ("IfMatch" in arguments and _code(error) == "NoSuchKey"):
                return False
            raise
        return True

    def _key(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}


def _code(error: BaseException) -> str:
    """Return S3's name of an error, which s3fs keeps in the cause."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return response.get("Error", {}).get("Code", "")
