"""Pictures of a release: folders listed once, and files whose names a Mac has decomposed or whose suffix is another."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePath

from common import paths
from common.paths import is_folder
from common.records import Image

# where two files differ in their suffix only, the earlier of these is taken; files with any other are no pictures
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".svg", "")


def without_suffix(name: str) -> str:
    """Return a file name without its last suffix."""
    return os.path.splitext(name)[0]


class Pictures:
    """One folder of pictures, listed once: a look at the disk per picture takes minutes on a network disk.

    `key` of a file name is what identifies the picture when the suffix is not the one that the release says. `names`
    are the files, by their names as they are and composed: a Mac may have written them decomposed (NFD).
    """

    def __init__(self, folder: Path, key: Callable[[str], str] = without_suffix):
        self.folder = folder
        self.key = key
        self.names = _listed(folder, files=True)
        self.by_key: dict[str, str] = {}
        for name in self.names.values():
            kind = key(composed(name))
            if _rank(name) < _rank(self.by_key.setdefault(kind, name)):
                self.by_key[kind] = name

    def find(self, *names: str) -> Image:
        """Return the first of `names` that is there, else one with the key of one of them, else where it should be."""
        if not names[0] or names[0] in (".", "..") or "\0" in names[0] or len(names[0].encode()) > 255:
            return Image(None, "name")
        alike = (self.by_key.get(self.key(composed(name)), "") for name in names)
        found = [self.names[form] for name in names for form in (name, composed(name)) if form in self.names]
        there = found or [name for name in alike if _is_picture(name)]
        return Image(self.folder / (there or names)[0])


class Tree:
    """Files below a folder by paths whose names a Mac may have decomposed; only for such a name is a folder listed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._names: dict[Path, dict[str, str]] = {}

    def path(self, relative: PurePath) -> Path:
        """Return where a file of this path is, else where it should be."""
        path = self.folder
        for part in relative.parts:
            if not part.isascii():
                if path not in self._names:
                    self._names[path] = _listed(path, files=False)
                part = self._names[path].get(part) or self._names[path].get(composed(part), part)
            path = path / part
        return path


def composed(name: str) -> str:
    """Return a name with its accents composed (NFC), as most systems write them; in itself it is the same name."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _listed(folder: Path, *, files: bool) -> dict[str, str]:
    """Return the names in a folder, of files alone or of all, by themselves and composed; {} where it is none."""
    found = paths.files(folder) if files else paths.names(folder)
    return {composed(name): name for name in found} | {name: name for name in found}


def _rank(name: str) -> tuple[int, str]:
    suffix = os.path.splitext(name)[1].lower()
    return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES), name)


def _is_picture(name: str) -> bool:
    return bool(name) and _rank(name)[0] < len(SUFFIXES)


def pictures_in(data: Path, *folders: str) -> Pictures:
    """Return the first of `folders` that is there; if none is, the first, so that every picture counts as missing."""
    return Pictures(next((data / folder for folder in folders if is_folder(data / folder)), data / folders[0]))
