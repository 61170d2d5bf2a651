"""Small copies of pictures: decoded by the guard of extraction, without metadata, each content once."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.output import Progress
from extract import images

SIDE = 160  # pixels, the longer side: twice what a page shows
FOLDER = "pictures"
DIGITS = 24  # of the content's sha256
THREADS = 4


def make(paths: Sequence[Path], write: Callable[[str, bytes], None]) -> dict[Path, str]:
    """Write small copies, pictures/<digest>.jpg, and return the name of each picture that can be shown.

    Pictures that the guard refuses have none: extraction has counted them.
    """
    made: dict[str, bool] = {}
    found: dict[Path, str] = {}
    with Progress(len(paths), "thumbnails", "pictures") as progress, ThreadPoolExecutor(THREADS) as pool:
        for path, name, data in pool.map(_small, paths):
            if data is not None:
                if not made.get(name):
                    write(name, data)
                    made[name] = True
                found[path] = name
            progress.advance(1)
    return found


def _small(path: Path) -> tuple[Path, str, bytes | None]:
    """Return a picture's path, the name of its small copy, and that copy, None where there is none."""
    data, reason = images.read(path)
    name = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:DIGITS]}.jpg"
    if reason != "ok":
        return path, name, None
    picture, _ = images.decode(data)
    if picture is None:
        return path, name, None
    return path, name, images.thumbnail(picture, SIDE)
