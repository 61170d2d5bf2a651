"""A stranger's cache: HDF5 files full of tricks under manifests that fit them.

Whoever writes both can say what he likes about numbers. He must not make us open another file, take more memory than
the tensors have, hang or crash; a pull must refuse his cache, and other tools must not be let near his files.
"""

import os
import random
import resource
from pathlib import Path

from cache import manifests
from cache.checks import hdf5_gate
from cache.checks.verify import verify
from cache.reader import Reader
from cache.sharing.pull import pull
from common.errors import CacheError
from torture.processes import Report, apart, guarded, survivors
from torture.strangers.hostile_files import TRICKS, Trick, disguise, honestly
from torture.strangers.strange_types import OTHERWISE, unlike
from torture.tiny_cache import Result

SECRET = b"the secret of another file, which no cache may show"
MISPLACED = ("symlink", "fifo", "directory")
PASSED = "passed"
MEMORY = 256 << 20  # of its own that a process may take for a hostile cache
SECONDS = 1.0


def run(scratch: Path, seed: int, *, pulled: int = 1) -> Result:
    """Let every trick be pulled, verified and read: the first two refuse it, the third gets its bytes and no others.

    Of `pulled` tricks one is pulled: a pull looks at files as verify does.
    """
    result, secret = Result("hostile files"), scratch / "secret.txt"
    scratch.mkdir(parents=True, exist_ok=True)
    secret.write_bytes(SECRET * 100)
    honest = disguise(scratch / "honest", honestly, secret)
    taken = [apart(lambda work=work: work(honest), scratch).answer for work in (_read, _verify, _pull)]
    if taken != ["", "found nothing", "was not refused"]:
        result.fail(f"an honest file is refused, so the tricks prove nothing: {taken}")
    folders = {name: disguise(scratch / name, trick, secret) for name, trick in TRICKS.items()}
    folders |= {kind: _misplaced(scratch / kind, kind, secret) for kind in MISPLACED}
    with guarded(secret) as touched:
        for name, folder in folders.items():
            pulls = [("pulling", _pull)] if result.tried % pulled == 0 else []
            result.case()
            for what, work in (("reading", _read), ("verifying", _verify), *pulls):
                problem = _judge(apart(lambda work=work, folder=folder: work(folder), scratch), folder, result)
                if problem or touched():
                    result.fail(f"{name}: {what} it {problem or 'touched another file'}")
    return result


def _judge(report: Report, folder: Path, result: Result) -> str:
    """Return what a process did that it must not, "" if nothing."""
    result.most("ms of the slowest", round(1000 * report.seconds))
    result.most("MB of the largest", report.memory >> 20)
    if report.status:
        return f"ended with status {report.status}"
    listed = {str(path) for path in folder.iterdir() if not path.is_symlink()} | {str(folder), os.devnull}
    foreign = [path for path in report.opened if path not in listed and not path.startswith(f"{folder}-pulled")]
    if foreign:
        return f"opened {foreign}"
    if report.memory > MEMORY or report.seconds > SECONDS:
        return f"took {report.memory >> 20} MB and {report.seconds:.1f} s"
    return report.answer


def _read(folder: Path) -> str:
    try:
        reader = Reader(folder)
        shown = [reader.column(name).tobytes() for name in reader.columns]
    except CacheError:
        return ""
    return "showed another file" if any(SECRET[:20] in data for data in shown) else ""


def _verify(folder: Path) -> str:
    problem = "" if any(finding.problem for finding in verify(folder)) else "found nothing"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return problem or ("took too long" if used.ru_utime + used.ru_stime > SECONDS else "")


def _pull(folder: Path) -> str:
    target = folder.with_name(f"{folder.name}-pulled")
    try:
        pull(target, str(folder))
    except CacheError as error:
        return "left a cache behind" if (target / manifests.NAME).exists() or "\n" in str(error) else ""
    return "was not refused"


def _misplaced(folder: Path, kind: str, secret: Path) -> Path:
    """Write an honest cache and put something else in place of its shard."""
    disguise(folder, honestly, secret)
    path = next(folder.glob("*.h5"))
    path.rename(secret.parent / f"{kind}.h5")
    if kind == "symlink":
        path.symlink_to(secret.parent / f"{kind}.h5")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    return folder


def mutate(scratch: Path, count: int, seed: int) -> Result:
    """Change bytes of every trick's file and of the honest one: libhdf5 may die of it, but only in its child.

    What the gate lets pass h5py must read as melcache does.
    """
    result, secret = Result("mutated files"), scratch / "secret.txt"
    scratch.mkdir(parents=True, exist_ok=True)
    secret.write_bytes(SECRET * 100)
    tricks: dict[str, Trick] = {"honest": honestly, **TRICKS}
    folders = [disguise(scratch / name, trick, secret) for name, trick in tricks.items()]
    cases = [_Mutant(folder, seed) for folder in folders]
    with guarded(secret) as touched:
        for case, answer in survivors(count, lambda case: cases[case % len(cases)].try_(case)):
            result.case()
            result.count("killed their process" if not answer else "passed" if answer == PASSED else "refused")
            if answer.startswith(OTHERWISE):
                result.fail(f"mutation {case} of {folders[case % len(cases)].name} is let pass, and {answer}")
            if touched():
                result.fail(f"mutation {case} of {folders[case % len(cases)].name} touched another file")
    return result


class _Mutant:
    """One file's mutations, by case."""

    def __init__(self, folder: Path, seed: int) -> None:
        content = manifests.load(folder)
        self._wanted = hdf5_gate.wanted(folder, content, content.shards[0])
        self._path, self._seed = folder / content.shards[0].file, seed
        self._good = self._path.read_bytes()

    def try_(self, case: int) -> str:
        """Return what the gate says of the file after the case's mutation."""
        bad = mutated(self._good, random.Random(f"{self._seed} {case}"))
        path = self._path.with_name("mutant.h5")
        path.write_bytes(bad)
        columns = self._wanted["columns"]
        return " ".join((hdf5_gate.problem(path, columns) or unlike(path, columns) or PASSED).split())


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return data with a few bits, bytes or runs changed, mostly near its beginning, or cut."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(min(len(changed), rng.choice((64, 512, 4096, len(changed)))))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            changed[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
        else:
            begin = rng.randrange(len(changed))
            changed[at : at + 16] = changed[begin : begin + 16]
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.05 else changed)
