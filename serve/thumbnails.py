"""Pictures of entities, small: opened by the guard of extraction, encoded anew without what their files say beside."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extract import images
from serve.refusals import Refusal

SIDE = 160  # pixels
KEPT = 2_000  # thumbnails, of some 5 kB
WAITING = 100


class Thumbnails:
    """Makes them, one after the other in a thread, and keeps the last ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, bytes | str] = OrderedDict()
        self._coming: dict[Path, asyncio.Future[bytes | str]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="thumbnails")

    async def of(self, path: Path) -> bytes:
        """Return a JPEG.  Raises Refusal: 404 for a picture that cannot be shown, 503 where too many are asked for."""
        if path in self._kept:
            self._kept.move_to_end(path)
            found = self._kept[path]
        else:
            found = await asyncio.shield(self._made(path))
        if isinstance(found, str):
            raise Refusal(404, f"the picture of this entity cannot be shown: {found}")
        return found

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _made(self, path: Path) -> asyncio.Future[bytes | str]:
        if path not in self._coming:
            if len(self._coming) >= WAITING:
                raise Refusal(503, f"{WAITING} pictures are being made: try again later", 1)
            work = asyncio.get_running_loop().run_in_executor(self._thread, small, path)
            work.add_done_callback(lambda done: self._keep(path, done))
            self._coming[path] = work
        return self._coming[path]

    def _keep(self, path: Path, done: asyncio.Future[bytes | str]) -> None:
        del self._coming[path]
        if not done.cancelled() and done.exception() is None:
            self._kept[path] = done.result()
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def small(path: Path) -> bytes | str:
    """Return a picture's thumbnail as a JPEG, or the reason why there is none (cache.kinds.IMAGE_STATUS)."""
    data, status = images.read(path)
    picture, status = images.decode(data) if status == "ok" else (None, status)
    if picture is None:
        return status
    return images.thumbnail(picture, SIDE)
