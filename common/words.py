"""What a mistyped name was meant to be.  The Makefile runs this with the system's python3, of whatever version."""

import difflib
from typing import Collection  # noqa: UP035 of an old Python, too


def nearest(word: str, known: Collection[str]) -> str:
    """Return " (did you mean drin?)", with the nearest of the `known` names, where one is near; else ""."""
    found = difflib.get_close_matches(word.lower(), [name.lower() for name in known], 1)
    return next((f" (did you mean {name}?)" for name in known if found == [name.lower()]), "")


def one_of(word: str, known: Collection[str]) -> str:
    """Return "bert, drin, dwe (did you mean drin?)": the `known` names, and the nearest to a word that is none."""
    return ", ".join(known) + nearest(word, known)
