"""Power cuts: what extraction and pull do to a folder is recorded, and every state that a cut may leave is replayed.

What fsync has not made durable may be there, missing, cut anywhere, or have holes; names that the folder's fsync has
not made durable may be there or not, in any combination. As in ALICE (Pillai et al. 2014).
"""

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import manifests
from cache.sharing.pull import pull
from torture.system_calls import Log, recorded
from torture.tiny_cache import Result, build, contents, fast_disk, no_gate, put, unlike, wrong

Names = dict[str, int]  # file name: inode
FATES = ("whole", "empty", "cut", "zeros", "holes")
MOST = 12  # states of one moment; where there are more, as many are drawn
BLOCK = 512


@dataclass(frozen=True)
class State:
    """A folder after a cut: file contents by name, and the names that must be there."""

    files: tuple[tuple[str, bytes], ...]
    promised: frozenset[str]


def states(log: Log, rng: random.Random) -> Iterator[State]:
    """Yield the distinct states that a cut during the recorded operations may leave."""
    seen, moment = set(), Moment()
    for operation in (None, *log.operations):
        if operation is not None:
            moment.advance(*operation)
        for state in moment.states(rng):
            if state not in seen:
                seen.add(state)
                yield state


class Moment:
    """What is certain and what is not after the operations so far."""

    def __init__(self) -> None:
        self._data: dict[int, bytes] = {}
        self._durable: dict[int, bytes] = {}  # as of the last fsync
        self._settled: Names = {}
        self._names: Names = {}  # as the running system sees them
        self._open: list[dict[str, int | None]] = []  # operations on names since the folder's last fsync
        self._promised: set[str] = set()

    def advance(self, kind: str, *given: Any) -> None:
        """Apply the next operation."""
        if kind == "promise":
            self._promised.add(given[0])
        elif kind == "release":
            self._promised.clear()
        elif kind == "fsync" and given[0] == "folder":
            self._settled, self._open = dict(self._names), []
        elif kind == "fsync":
            self._durable[given[0]] = self._data[given[0]]
        elif kind == "write":
            inode, block, offset = given
            data = self._data[inode]
            offset = len(data) if offset is None else offset
            self._data[inode] = data[:offset].ljust(offset, b"\0") + block + data[offset + len(block) :]
        elif kind == "truncate":
            self._data[given[0]] = self._data[given[0]][: given[1]]
        else:
            self._rename(kind, *given)

    def states(self, rng: random.Random) -> Iterator[State]:
        """Yield the states that a cut may leave now: all, or MOST of them at random."""
        choices = [(True, False)] * len(self._open)
        if len(choices) > 10:
            kepts = [tuple(map(rng.choice, choices)) for _ in range(MOST)]
        else:
            kepts = list(itertools.product(*choices))
        drawn = []
        for kept in kepts:
            names = dict(self._settled)
            for change, keep in zip(self._open, kept, strict=True):
                if keep:
                    names |= change
            there = {name: inode for name, inode in names.items() if inode is not None}
            risky = sorted({inode for inode in there.values() if self._durable.get(inode, b"") != self._data[inode]})
            fates = itertools.product(FATES, repeat=len(risky))
            drawn += [(there, dict(zip(risky, fate, strict=True))) for fate in itertools.islice(fates, 10 * MOST)]
        for there, fate in rng.sample(drawn, MOST) if len(drawn) > MOST else drawn:
            files = {name: self._after(inode, fate.get(inode), rng) for name, inode in there.items()}
            yield State(tuple(sorted(files.items())), frozenset(self._promised))

    def _rename(self, kind: str, *names: Any) -> None:
        change: dict[str, int | None] = {}
        if kind == "create":
            change[names[0]] = names[1]
            self._data[names[1]] = b""
        elif kind == "unlink":
            change[names[0]] = None
        else:
            change[names[1]] = self._names[names[0]]
            if kind != "link":
                change[names[0]] = None
        self._open.append(change)
        self._names = {name: inode for name, inode in (self._names | change).items() if inode is not None}

    def _after(self, inode: int, fate: str | None, rng: random.Random) -> bytes:
        data = self._data[inode]
        if fate == "empty":
            return b""
        if fate == "zeros":
            return bytes(len(data))
        if fate == "cut":
            return data[: rng.randrange(len(data) + 1)]
        if fate == "holes":
            blocks = [data[begin : begin + BLOCK] for begin in range(0, len(data), BLOCK)]
            return b"".join(block if rng.random() < 0.5 else bytes(len(block)) for block in blocks)
        return data


class Stage:
    """The folder in which states are laid; only what differs from the last one is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there: dict[str, bytes] | None = None

    def lay(self, state: State) -> None:
        """Write a state's files."""
        wanted = dict(state.files)
        if self._there is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self._there = {}
        for name in self._there.keys() - wanted.keys():
            (self.folder / name).unlink()
        for name, data in wanted.items():
            if self._there.get(name) != data:
                put(self.folder / name, data)
        self._there = wanted

    def spoiled(self) -> None:
        """Say that something else has written into the folder."""
        self._there = None


Work = Callable[[Path], str]  # makes or takes a cache in a folder, returns its id


def run(scratch: Path, count: int, seed: int) -> Result:
    """Try at least `count` states, of extractions and of pulls in turn, world after world.

    Each state must open as one of the caches or not at all, must hold what was promised, and must resume to the id.
    """
    result, rng, turn = Result("power cut"), random.Random(seed), 0
    while result.tried < count and not result.failures:
        root, turn = scratch / f"recorded-{turn}", turn + 1
        root.mkdir(parents=True)
        log, known, written, again = (_pulls if turn % 2 == 0 else _extractions)(scratch, root, rng)
        stage = Stage(scratch / "state")
        for state in states(log, rng):
            _try(stage, state, known, written, result)
            if rng.random() < 0.02:
                _resume(stage, again, known, result)
            if result.tried >= count:
                break
        result.count("worlds")
        stage.spoiled()
        shutil.rmtree(root)
    return result


def _extractions(scratch: Path, root: Path, rng: random.Random) -> tuple[Log, dict[str, Any], dict[str, bytes], Work]:
    """Record a first extraction, another one over it, and the first one's repetition."""
    first, second = rng.randrange(1 << 30), rng.randrange(1 << 30)
    known, written = {}, {}
    with recorded(root) as log:
        for world in (first, second, first):
            identity = build(root, world, log.promise)
            known[identity] = contents(root)
            written |= {path.name: path.read_bytes() for path in root.glob("*.h5")}
    return log, known, written, lambda folder: build(folder, second)


def _pulls(scratch: Path, root: Path, rng: random.Random) -> tuple[Log, dict[str, Any], dict[str, bytes], Work]:
    """Record a pull, one of the same files with other numbers in its place, and one of another world."""
    first, second = rng.randrange(1 << 30), rng.randrange(1 << 30)
    known = {}
    remotes = [scratch / f"remote-{i}-{first}" for i in range(3)]
    for remote, (world, numbers) in zip(remotes, ((first, 0), (first, 1), (second, 0)), strict=True):
        with fast_disk():
            identity = build(remote, world, numbers=numbers)
        known[identity] = contents(remote)
    with recorded(root) as log, no_gate():
        for remote in remotes:
            log.release()  # for a moment there is no cache that opens
            pull(root, str(remote), replace=True)
            log.promise(root / manifests.NAME)
    return log, known, {}, lambda folder: pull(folder, str(remotes[-1]), replace=True).id


def _try(stage: Stage, state: State, known: dict[str, Any], written: dict[str, bytes], result: Result) -> None:
    stage.lay(state)
    result.case()
    must_open = manifests.NAME in state.promised
    if problem := (unlike if must_open else wrong)(stage.folder, known):
        result.fail(f"state {result.tried}: {problem}")
    files = dict(state.files)
    for name in state.promised:
        if name not in files or (name in written and files[name] != written[name]):
            result.fail(f"state {result.tried}: {name} was promised and is lost")


def _resume(stage: Stage, again: Work, known: dict[str, Any], result: Result) -> None:
    stage.spoiled()
    result.count("resumed")
    with no_gate():
        identity = again(stage.folder)
    if identity not in known or unlike(stage.folder, known):
        result.fail(f"state {result.tried}: resuming gives another cache")
