"""The fields of a manifest, and what each may hold: its type and range."""

import re
from collections.abc import Callable
from typing import Any

from cache.schema import OPTIONAL, PARTS, TABLES
from common.errors import CacheError

MAX_COUNT = 1 << 50
TEXT = 10_000  # characters
DTYPES = ("<f2", "<f4", "<i4", "|i1", "|u1", "|b1")

Check = Callable[[Any], bool]
NONE: dict[str, Check] = {}


def check_fields(value: Any, wanted: dict[str, Check], where: str, more: dict[str, Check] = NONE) -> None:
    """Raise CacheError unless an object has exactly the wanted fields, `more` of them or not, and each is good."""
    if not isinstance(value, dict) or set(value) - set(more) != set(wanted):
        raise CacheError(f"{where}: expected an object with exactly the fields {', '.join(sorted(wanted))}")
    for field, good in (wanted | more).items():
        if field in value and not good(value[field]):
            raise CacheError(f"{where}: field {field!r} is not what the format allows")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(is_text(key) and _count(item) for key, item in value.items())


def _hex(digits: int) -> Check:
    pattern = re.compile(f"[0-9a-f]{{{digits}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def is_text(value: Any) -> bool:
    """Whether it is a text that a manifest may hold."""
    return isinstance(value, str) and len(value) <= TEXT and value.isprintable()


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def _file(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9_.]+-[0-9]{5,}\.[0-9a-f]{12}\.h5", value) is not None


def _dtype(value: Any) -> bool:
    return isinstance(value, str) and (value in DTYPES or re.fullmatch(r"\|S[1-9][0-9]{0,5}", value) is not None)


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 3 and all(type(n) is int and 0 < n <= 1 << 24 for n in value)


def _limit(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_COUNT


def _generations(value: Any) -> bool:
    """Whether it is how many rows entity and mention had after each extraction."""
    pairs = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    return pairs and all(_count(count) for pair in value for count in pair)


def _rates(value: Any) -> bool:
    """Return whether a value notes of parts how many seconds computing how many of their rows took."""
    return isinstance(value, dict) and all(
        _part_name(part)
        and isinstance(noted, dict)
        and set(noted) == {"seconds", "rows"}
        and _seconds(noted["seconds"])
        and _count(noted["rows"])
        for part, noted in value.items()
    )


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _part_name(value: Any) -> bool:
    return isinstance(value, str) and value in PARTS


MANIFEST: dict[str, Check] = {
    "format": is_text,
    "version": _count,
    "dataset": lambda value: (
        isinstance(value, dict)
        and set(value) == {"name", "content", "licence", "source"}
        and _hex(64)(value["content"])
        and all(map(is_text, value.values()))
    ),
    "tables": lambda value: (
        _counts(value)
        and set(TABLES) - set(OPTIONAL) <= set(value) <= set(TABLES)
        and all(value.values())
        and value["mention"] == value["pair"]
    ),
    "candidates": _count,
    "splits": _counts,
    "coverage": _counts,
    "warnings": _texts,
    "parts": lambda value: _object(value) and len(value) > 0,
    "shards": lambda value: isinstance(value, list) and len(value) <= 1_000_000,
    "provenance": lambda value: (
        isinstance(value, dict)
        and is_text(value.get("made", ""))
        and _seconds(value.get("seconds", 0))
        and _rates(value.get("parts", {}))
        and ("of" not in value or _hex(64)(value["of"]))
    ),
    "id": _hex(64),
    "digest": _hex(64),
}
MORE: dict[str, Check] = {"generations": _generations}
PART: dict[str, Check] = {"recipe": _object, "inputs": _object, "fingerprint": _hex(64), "columns": _object}
SPEC: dict[str, Check] = {"dtype": _dtype, "shape": _shape}
WIDTH: dict[str, Check] = {"width": lambda value: type(value) is int and 0 < value <= 1 << 24}
SHARD: dict[str, Check] = {
    "part": _part_name,
    "file": _file,
    "start": _count,
    "rows": lambda value: _count(value) and value > 0,
    "bytes": _count,
    "sha256": _hex(64),
    "key": _hex(64),
    "columns": _object,
}
PLACE: dict[str, Check] = {"offset": _count, "xxh3": _hex(32), "min": _limit, "max": _limit}
