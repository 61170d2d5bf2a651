"""What a part was made with, and what a shard must hold, as hashes known before anything is computed."""

import hashlib
import json
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from typing import Any

import xxhash

NO_CONTENT = bytes(32)  # the content hash of a row that has no picture file


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no blanks, ASCII.  Raises ValueError on NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def checksum(data: bytes | bytearray | memoryview) -> str:
    """Return the xxh3-128 of bytes, 32 hex digits: it notices damage, not malice."""
    return xxhash.xxh3_128_hexdigest(data)


def content_hash(*fields: str | int) -> bytes:
    """Return 32 bytes that stand for the given fields; ("ab", "c") and ("a", "bc") differ."""
    told = ",".join(encode_basestring_ascii(field) if isinstance(field, str) else str(int(field)) for field in fields)
    return hashlib.sha256(f"[{told}]".encode()).digest()  # of their canonical JSON, in a third of the time


def digest_of_list(texts: Iterable[str]) -> str:
    """Return `digest` of a list of texts without quotes and backslashes, as hex digits are, one at a time."""
    found, between = hashlib.sha256(b"["), b""
    for text in texts:
        found.update(b'%b"%b"' % (between, text.encode()))
        between = b","
    found.update(b"]")
    return found.hexdigest()


def shard_key(fingerprint: str, contents: Iterable[bytes]) -> str:
    """Return the key of a shard: its part's fingerprint and, in order, the content of each of its rows."""
    key = hashlib.sha256(bytes.fromhex(fingerprint))
    for content in contents:
        key.update(content)
    return key.hexdigest()
