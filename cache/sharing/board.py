"""Where machines that share no folder meet: small files in a remote that say who is at what, and what is finished.

Beside the shards lies `meeting/`, in it for each group of shards a claim while a machine is at it, then a receipt: the
manifest entries of shards that are there by then. A claim decides nothing, and who loses one computes the same bytes.
Its owner writes it anew every BEAT seconds; one that has not changed for QUIET seconds of a watcher's own clock is
void, and the first to replace it has it: no two clocks need to agree. Files of one meeting begin with its name, which
stands for the keys of all shards that are planned, so that machines of different plans do not meet.
"""

import secrets
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from cache import fingerprint, manifests
from cache.manifests import fields
from cache.manifests.entries import Manifest, ShardEntry
from cache.manifests.fields import check_fields
from cache.remotes.base import Conditional, Remote
from cache.remotes.meeting_names import CLAIM, MEETING, NAMED, PROBE, RECEIPT
from cache.schema import HOMES
from cache.sharing.download import DamagedError
from cache.writing.writer import ShardPlan
from common.errors import CacheError

BEAT, QUIET, POLL = 20.0, 120.0, 3.0
MOST_FILES = 4 * manifests.MAX_SHARDS  # of meetings at one remote
RECEIPT_BYTES = 1 << 20
clock = time.monotonic


def meeting_of(keys: Iterable[str]) -> str:
    """Return the name of the meeting of those who make shards of these keys."""
    return fingerprint.digest_of_list(sorted(keys))[:16]


def meetings_of(manifest: Manifest) -> set[str]:
    """Return the names of the meetings at which a cache may have been made: of all, or of pairs behind the rest."""
    pairs = [shard.key for shard in manifest.shards if HOMES.get(shard.part.table, shard.part.table) == "pair"]
    keys = [shard.key for shard in manifest.shards]
    return {meeting_of(keys), meeting_of(pairs), meeting_of(set(keys).difference(pairs))}


class Board:
    """One meeting as a machine sees it, which has looked a while ago.  Methods that ask raise CacheError.

    `names` are those of its groups; `finished` those that have a receipt.  Safe in several threads.
    """

    def __init__(self, remote: Conditional, meeting: str, names: Collection[str]) -> None:
        self._remote, self._meeting, self._names = remote, meeting, names
        self._writer, self._beats = secrets.token_hex(8), 0
        self._held: dict[str, str] = {}  # the versions of our claims
        self._seen: dict[str, tuple[str, float]] = {}  # those of others, since when
        self.finished: set[str] = set()
        self.lost = False  # whether what others had put there was gone when we looked last
        self._looked, self._lock = float("-inf"), threading.RLock()

    def honest(self) -> bool:
        """Return whether conditions of writes are kept there: some stores ignore them without a word."""
        probe = self._path(self._writer, PROBE)
        try:
            first = self._remote.swap(probe, b"1", "")
            if not first or self._remote.swap(probe, b"2", "") is not None:
                return False
            second = self._remote.swap(probe, b"3", self._remote.versions(probe, MOST_FILES).get(probe, ""))
            return bool(second) and self._remote.swap(probe, b"4", first) is None
        finally:
            self._remote.remove(probe)

    def others(self) -> set[str]:
        """Return the names of other meetings that have left files there."""
        found = self._remote.versions(f"{MEETING}/", MOST_FILES)
        return {name[1] for name in map(NAMED.fullmatch, found) if name} - {self._meeting}

    def look(self, *, now: bool = False) -> None:
        """Ask what is claimed and finished, unless that was asked less than POLL seconds ago."""
        with self._lock:
            if clock() - self._looked < POLL and not now:
                return
            found = self._remote.versions(f"{MEETING}/{self._meeting}-", MOST_FILES)
            self._looked, before = clock(), {*self._seen, *self.finished}
            named = {(name[2], name[3]): found[name[0]] for name in map(NAMED.fullmatch, found) if name}
            here = {key: version for key, version in named.items() if key[0] in self._names}
            self.finished = {name for name, kind in here if kind == RECEIPT}
            claims = {name: version for (name, kind), version in here.items() if kind == CLAIM}
            seen = {}
            for name in claims.keys() - self._held.keys():
                was, since = self._seen.get(name, ("", self._looked))
                seen[name] = (claims[name], since if was == claims[name] else self._looked)
            self._seen = seen
            self.lost |= not before <= {*claims, *self.finished}

    def busy(self, name: str) -> bool:
        """Return whether another machine was at a group when we looked last."""
        with self._lock:
            return name in self._seen and clock() - self._seen[name][1] <= QUIET

    def claim(self, name: str) -> bool:
        """Claim a group and look again; return whether it is ours to make."""
        with self._lock:
            free = not self.busy(name) and name not in self.finished
            if free and (version := self._write(name, self._seen.get(name, ("",))[0])):
                self._held[name] = version
            self.look(now=True)
            if name in self.finished:
                self.drop(name)
            return name in self._held

    def beat(self) -> None:
        """Show that we are at what we have claimed; what another has taken over is ours no more."""
        for name in list(self._held):
            with self._lock:
                if name in self._held:
                    if version := self._write(name, self._held[name]):
                        self._held[name] = version
                    else:
                        del self._held[name]

    def drop(self, name: str) -> None:
        """Give up a claim."""
        with self._lock:
            if self._held.pop(name, ""):
                self._remote.remove(self._path(name, CLAIM))

    def drop_all(self) -> None:
        """Give up all claims."""
        for name in list(self._held):
            self.drop(name)

    def finish(self, name: str, entries: Sequence[ShardEntry]) -> None:
        """Say that the shards of a group are there, and give up its claim."""
        told = {"format": "melcache receipt", "shards": [entry.as_json() for entry in entries]}
        self._remote.swap(self._path(name, RECEIPT), manifests.written(told), "")
        self.drop(name)

    def receipt(self, name: str, plans: Sequence[ShardPlan]) -> list[ShardEntry] | None:
        """Return what is said of the shards of a group, None if it is gone.  Raises DamagedError for what is not."""
        path = self._path(name, RECEIPT)
        data = self._remote.read(path, RECEIPT_BYTES)
        try:
            return None if data is None else parsed(data, plans, self._remote.where(path))
        except CacheError as error:
            raise DamagedError(str(error)) from error

    def _write(self, name: str, version: str) -> str | None:
        """Write our claim in place of a version, as `swap` does; a line that broke behind it changes nothing."""
        self._beats += 1
        path, told = self._path(name, CLAIM), fingerprint.canonical({"writer": self._writer, "beat": self._beats})
        written = self._remote.swap(path, told, version)
        if written is None and self._remote.read(path, RECEIPT_BYTES) == told:
            return self._remote.versions(path, MOST_FILES).get(path)
        return written

    def _path(self, name: str, kind: str) -> str:
        return f"{MEETING}/{self._meeting}-{name}.{kind}"


def parsed(data: bytes, plans: Sequence[ShardPlan], where: str) -> list[ShardEntry]:
    """Return the entries of a receipt, those of exactly the planned shards.  Raises CacheError for anything else.

    A key stands for recipe and rows, and a name holds no path: it is the planned one.
    """
    told = manifests.parse(data, where)
    check_fields(told, {"format": lambda value: value == "melcache receipt", "shards": _is_list}, where)
    return fitting([_entry(shard, where) for shard in told["shards"]], plans, where)


def fitting(found: list[ShardEntry], plans: Sequence[ShardPlan], where: str) -> list[ShardEntry]:
    """Return entries that are those of exactly the planned shards.  Raises DamagedError for others."""
    if sorted(map(_what, found)) != sorted(map(_what, plans)):
        raise DamagedError(f"{where} is not of the {len(plans)} shards that are planned")
    wanted = {plan.file: plan for plan in plans}
    for entry in found:
        plan = wanted[entry.file]
        if entry.columns.keys() != plan.part.stored.keys() or entry.bytes > plan.most_bytes:
            raise DamagedError(f"{where}: {entry.file} has other columns or more bytes than planned")
    return found


def clear(remote: Remote, *published: Manifest) -> None:
    """Remove what the meetings have left at which published caches were made.  Raises CacheError."""
    if isinstance(remote, Conditional) and remote.conditional:
        names = {name for manifest in published for name in meetings_of(manifest)}
        for found in map(NAMED.fullmatch, remote.versions(f"{MEETING}/", MOST_FILES)):
            if found and found[1] in names:
                remote.remove(found[0])
        remote.tidy(MEETING)


def _entry(shard: Any, where: str) -> ShardEntry:
    check_fields(shard, fields.SHARD, f"{where}: shards")
    for name, place in shard["columns"].items():
        check_fields(place, fields.PLACE, f"{where}: {shard['file']}: column {name}")
    return ShardEntry.of(shard)


def _what(shard: ShardEntry | ShardPlan) -> tuple[str, str, str, int, int]:
    part = shard.part if isinstance(shard, ShardEntry) else shard.part.name
    return shard.file, shard.key, part, shard.start, shard.rows


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
