"""Text of strangers (of a cache, a store, a release, a run folder) where something acts upon its characters.

A terminal acts upon ESC, C1 and marks of direction, Markdown upon its signs and HTML, a shell upon nearly all. There is
one function for each, and tests/common/test_foreign.py looks for what goes around them.
"""

import re
import shlex

_SIGNS = re.compile(r"[\\`*\[\]|~$!#]|(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word is a letter
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def printable(text: str) -> str:
    """Return text as one line, without the characters that a terminal acts upon."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)


def printable_lines(text: str) -> str:
    """Return lines of ours with foreign text in them, without the characters that a terminal acts upon; tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: no link, no HTML, no cell of a table ends in it."""
    return _SIGNS.sub(r"\\\g<0>", printable(text).translate(_ENTITIES))


def shell(word: object) -> str:
    """Return one word of a command that is suggested for a shell; it is never taken for an option."""
    text = str(word)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def make(variable: str, value: object) -> str:
    """Return one VARIABLE=value of a `make` command that is suggested for a shell; ours takes $ as it stands."""
    return shell(f"{variable}={value}")
