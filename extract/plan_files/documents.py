"""The JSON document of a plan: its fields, and what each may hold."""

from collections.abc import Mapping
from typing import Any

from cache.kinds import KINDS
from cache.manifests.fields import Check, check_fields, is_text
from common.errors import CacheError

FORMAT = "melcache plan 1"


def check(document: Mapping[str, Any], where: str) -> None:
    """Raise CacheError for a document that is not of the form that plan_files.writing gives it."""
    if document.get("format") != FORMAT:
        raise CacheError(f"{where}: expected format {FORMAT!r}, found {document.get('format')!r:.40}. Plan again")
    check_fields(dict(document), FIELDS, where)
    check_fields(document["release"], RELEASE, f"{where}: release")
    for name, part in document["parts"].items():
        if name not in KINDS:
            raise CacheError(f"{where}: {name!r:.40} is no part")
        check_fields(part, PART, f"{where}: part {name}")


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _counts(value: Any) -> bool:
    return _table(value) and all(type(number) is int for number in value.values())


def _prints(value: Any) -> bool:
    return _table(value) and all(map(is_text, value.values()))


def _faces(value: Any) -> bool:
    kinds = ((float, int), str, str, str)
    return value is None or (
        isinstance(value, list)
        and all(
            isinstance(faces, list)
            and all(isinstance(face, list) and len(face) == 4 and all(map(isinstance, face, kinds)) for face in faces)
            for faces in value
        )
    )


FIELDS: dict[str, Check] = {
    "format": _text,
    "code": _text,
    "options": _table,
    "release": _table,
    "about": _table,
    "listing": lambda value: isinstance(value, bool),
    "parts": _table,
    "listed": _prints,
    "origin": _text,
    "faces": _faces,
}
RELEASE: dict[str, Check] = {
    "name": _text,
    "licence": _text,
    "source": _text,
    "counts": _counts,
    "warnings": _texts,
    "doubts": _texts,
}
PART: dict[str, Check] = {"recipe": _table, "inputs": _prints, "fingerprint": is_text}
