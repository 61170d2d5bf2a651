"""Templates to pages: everything is escaped, and what reorders or hides text is shown as a replacement sign."""

import functools
import json
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

HERE = Path(__file__).parent.parent
STATIC = ("report.css", "report.js")
_TURNS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}  # the direction of what follows, too


def clean(value: Any) -> Any:
    """Return text on one line, without control characters, halves of characters and marks that turn its direction."""
    if type(value) is not str or (value.isprintable() and value.isascii()):
        return value
    return "".join(map(_shown, value))


def _shown(char: str) -> str:
    if char.isspace():
        return " "
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") or char in _TURNS else char


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,.0f}"
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return environment


def page(template: str, **values: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)


def static(name: str) -> str:
    """Return the text of a style sheet or script of ours."""
    return (HERE / "static" / name).read_text()


def script(function: str, value: Any) -> str:
    """Return a script that calls a function with a value: ASCII, in which no text of a stranger ends anything."""
    text = json.dumps(_cleaned(value), separators=(",", ":")).replace("<", "\\u003c")
    return f"{function}({text});\n"


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return clean(value)


def anchor(mention: str) -> str:
    """Return the id of a mention's place in a page: letters, digits and signs that no address takes for its own."""
    words = mention.encode("utf-8", "replace")
    return "m-" + quote(words, safe="").replace("~", "%7E").replace("%", "~")
