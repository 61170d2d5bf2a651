"""A real small disk: an ext4 image, mounted, that is filled up, and whose power is cut.  Needs root, and loop devices.

A cut is a copy of the image while the writer is stopped: what the kernel has not sent to the disk is not in it.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cache import manifests
from common.errors import CacheError
from torture.processes import child, until
from torture.tiny_cache import SHARDS, Result, build, contents, partial, unlike, wrong

BYTES = 8 << 20
STEP = 1 << 10
ENOUGH = 64 << 10  # free bytes that a cache of this world fits into
LONGEST = 0.1  # seconds until a cut
NOT_TRIED = "(not tried: this system lets nobody mount an image)"


@contextlib.contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount an image beside itself.  Raises OSError where that is not allowed."""
    folder = image.with_suffix(".mounted")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def make(image: Path) -> None:
    """Write an empty ext4 image with a journal, in blocks of 1 kB.  Raises OSError where there is no mkfs.ext4."""
    with image.open("wb") as file:
        file.truncate(BYTES)
    done = subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", "-m", "0", image], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


def run(scratch: Path, cuts: int, seed: int) -> Result:
    """Fill the disk to every degree, and cut the power `cuts` times; where mounting is refused, say so."""
    result, image = Result("a small ext4"), scratch / "disk.img"
    try:
        make(image)
        with mounted(image):
            pass
    except OSError:
        result.count(NOT_TRIED)
        return result
    with mounted(image) as disk:
        _fill(disk, seed, result)
    rng = random.Random(seed)
    for turn in range(cuts):
        _cut(scratch, turn, rng, result)
        result.case()
        result.count("power cuts")
    return result


def _fill(disk: Path, seed: int, result: Result) -> None:
    """Leave less and more room, by a block at a time, until a cache fits at once."""
    folder, filler = disk / "cache", disk / "filler"
    identity = build(folder, seed)
    known = {identity: contents(folder)}
    for free in range(0, ENOUGH, STEP):
        shutil.rmtree(folder)
        _leave(filler, free)
        result.case()
        try:
            problem = "" if build(folder, seed) == identity else "ended with another id"
            result.count("fitted")
        except CacheError as error:
            problem = "" if "No space left" in str(error) and "\n" not in str(error) else f"said {error}"
            result.count("disk full")
        if not problem and partial(folder):
            problem = f"left {partial(folder)}"
        problem = problem or wrong(folder, known)
        filler.unlink()
        if not problem and build(folder, seed) != identity:
            problem = "resumed to another cache"
        if problem:
            result.fail(f"{free} bytes free: {problem}")
    if not {"fitted", "disk full"} <= result.counts.keys():
        result.fail(f"the disk was never or always full: {result.counts}")


def _leave(filler: Path, free: int) -> None:
    """Fill the disk but for `free` bytes."""
    found = os.statvfs(filler.parent)
    size = found.f_bavail * found.f_frsize - free
    with filler.open("wb") as file:
        while size > 0:
            try:
                return os.posix_fallocate(file.fileno(), 0, size)
            except OSError:  # the list of its own blocks takes some
                size -= STEP


def _cut(scratch: Path, turn: int, rng: random.Random, result: Result) -> None:
    """Cut the power in the midst of an extraction, and see what the disk holds when it is there again."""
    image, after, world = scratch / "disk.img", scratch / "after.img", rng.randrange(1 << 30)
    make(image)
    reads, writes = os.pipe()
    with mounted(image) as disk:
        work = child(lambda: build(disk / "cache", world, lambda path: os.write(writes, f"{path.name}\n".encode())))
        os.close(writes)
        time.sleep(rng.uniform(0, LONGEST))
        with contextlib.suppress(ProcessLookupError):
            os.kill(work, signal.SIGSTOP)
        _settled(work)
        shutil.copyfile(image, after)
        os.kill(work, signal.SIGKILL)
        os.waitpid(work, 0)
        with os.fdopen(reads) as pipe:
            promised = pipe.read().split()
    whole = scratch / f"whole-{turn}"
    identity = build(whole, world)
    known = {identity: contents(whole)}
    if 0 < len(promised) <= SHARDS:
        result.count("in the midst of the writing")
    with mounted(after) as disk:
        folder = disk / "cache"
        problem = (unlike if manifests.NAME in promised else wrong)(folder, known)
        for name in promised:
            path = folder / name
            if not path.exists() or (name != manifests.NAME and path.read_bytes() != (whole / name).read_bytes()):
                problem = problem or f"{name} was promised and is lost"
        if not problem and (build(folder, world) != identity or unlike(folder, known) or _left(folder, whole)):
            problem = "resumed to another cache"
    if problem:
        result.fail(f"cut {turn}: {problem}")
    shutil.rmtree(whole)


def _settled(pid: int) -> None:
    """Wait until a process is stopped, which it is not while it waits for the disk, or has ended."""

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    until(lambda: state() in ("T", "Z"), f"process {pid} is stopped", pause=0.001)


def _left(folder: Path, whole: Path) -> bool:
    """Return whether there are other files than there should be."""
    return {path.name for path in folder.iterdir()} != {path.name for path in whole.iterdir()}
