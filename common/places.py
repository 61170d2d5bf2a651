"""Places as users write them: where caches lie elsewhere, and files and folders here.  What is almost a URL is refused.

An empty variable of a shell, a slash too few or a colon of ssh would else become a folder here without a word.
"""

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from common.errors import ConfigError

STORES = ("s3", "gs", "gcs", "hf", "memory")  # and file; memory is fsspec's, for tests
SCHEMES = (*STORES, "file", "http", "https", "ssh", "ftp")
HOSTS = re.compile(r"(www\.|huggingface\.co/|hf\.co/|[^/]*\.(amazonaws|googleapis)\.com/)", re.IGNORECASE)
SSH = re.compile(r"[^/@]+@[^/:]+:")  # user@host:
DRIVE = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
ALMOST = re.compile(rf"({'|'.join(SCHEMES)})(:|//)", re.IGNORECASE)
EXPECTED = "expected a directory, s3://bucket/folder, gs://bucket/folder or hf://datasets/org/name"
EXPECTED_HERE = "expected a file or a folder here"


def remote(given: str, name: str | None = None) -> str:
    """Return the URL or path of a place elsewhere, ready to be opened.

    `{name}` stands for the cache's `name`, ~ for the home directory, and file:// becomes a path; with `name` None all
    of that has been done. Raises ConfigError for what names no place, or only looks like one.
    """
    text = _written(given, EXPECTED)
    if name is not None:
        text = text.replace("{name}", name)
        if brace := re.search(r"\{[^{}]*\}?|\}", text):
            raise ConfigError(
                f"{_shown(given)}: {brace[0]} stands for nothing; only {{name}} does, for the name of the cache"
            )
    if url := _url(text):
        return url
    first = text.split("/")[0]
    if DRIVE.match(text) or "\\" in text:
        raise ConfigError(f"{_shown(given)} is a path of Windows: {EXPECTED}. Under WSL C:\\ is /mnt/c/")
    if text.startswith("//") or HOSTS.match(text):
        raise ConfigError(f"{_shown(given)} names another machine: {EXPECTED}")
    _refuse_almost(text)
    if ":" in first:
        raise ConfigError(
            f"{_shown(given)} looks like an address of ssh: {EXPECTED}. For a directory, write ./ before it"
        )
    return str(home(text)) if text.startswith("~") else text  # ./a:b stays that, for whoever reads it next


def local(given: str) -> Path:
    """Return a file or folder here, ~ being the home directory.  Raises ConfigError for an empty one and for a URL."""
    text = _written(given, EXPECTED_HERE)
    if DRIVE.match(text):
        raise ConfigError(f"{_shown(given)} is a path of Windows: {EXPECTED_HERE}")
    if URL.match(text):
        raise ConfigError(f"{_shown(given)} is a URL: {EXPECTED_HERE}; melcache pull takes a cache from there")
    _refuse_almost(text)
    if SSH.match(text):
        raise ConfigError(f"{_shown(given)} looks like an address of ssh: {EXPECTED_HERE}. Or write ./ before it")
    return home(text)


def _written(given: str, expected: str) -> str:
    """Return what was written, if it can be the name of anything."""
    if not given.strip():
        raise ConfigError(f"{given!r} names no place: {expected}. Is a variable empty, or not set?")
    if given != given.strip() or any(unicodedata.category(letter) == "Cc" for letter in given):
        raise ConfigError(f"{_shown(given)} begins or ends with a blank, or holds a control character: {expected}")
    if given.startswith("$"):
        raise ConfigError(f"{_shown(given)} begins with a variable that no shell has replaced: {expected}")
    return given


def _shown(given: str) -> str:
    """Return a place for a message, without what may be a password."""
    before, at, after = given[:200].rpartition("@")
    return repr(f"{'***' if before else ''}{at}{after.split('?')[0]}")


def _refuse_almost(text: str) -> None:
    """Raise ConfigError for a URL that lacks a slash or its colon."""
    if found := ALMOST.match(text):
        rest, scheme = text[found.end() :].lstrip("/"), found[1].lower()
        raise ConfigError(f"{_shown(text)}: did you mean {_shown(scheme + '://' + '/' * (scheme == 'file') + rest)}?")


def _url(text: str) -> str:
    """Return a URL whose every part is there, or the path of file://; "" for what is no URL."""
    if not (found := URL.match(text)):
        return ""
    scheme, rest = found[1].lower(), text[found.end() :]
    if "@" in rest.split("/")[0] or "?" in text or "#" in text:
        raise ConfigError(
            f"the {scheme}:// URL holds a user, a password, ? or #. URLs stand in shell histories and process lists: "
            "put credentials where the store's own tools look for them, and name only the place"
        )
    if scheme == "file":
        return str(_of_file(rest, text))
    if scheme not in STORES:
        raise ConfigError(f"{scheme}:// is none of s3://, gs://, hf://datasets/ and a directory: cannot use {text}")
    parts = rest.removesuffix("/").split("/")
    if any(part in ("", ".", "..") or any(letter.isspace() for letter in part) for part in parts):
        raise ConfigError(
            f"{text} has a part that is empty, a dot, or holds a blank. Is a variable empty, or not set? Expected a "
            f"bucket and a folder, such as {scheme}://team/caches/demo"
        )
    return f"{scheme}://{rest}"


def _of_file(rest: str, text: str) -> Path:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not path.strip("/"):
        raise ConfigError(f"{text} names no directory here: expected file:///absolute/path, or the path alone")
    return Path(slash + unquote(path))


def home(text: str) -> Path:
    """Return a path, ~ or ~user in front replaced by the home directory.  Raises ConfigError where there is none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{_shown(text)}: there is no such home directory. Write the whole path") from None
