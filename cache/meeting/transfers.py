"""Shards on their way between a folder and a remote while work goes on, a few at once; the first that was sent counts.

Machines of other processors may make other bytes of one key: who sends the second takes the first in its place, so that
all have one cache.
"""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cache import store
from cache.manifests.entries import ShardEntry
from cache.meeting.contact import Contact
from cache.remotes.base import Remote, Source
from cache.sharing.download import DamagedError, Fetch
from cache.writing.draft import Draft
from cache.writing.writer import ShardPlan
from common.paths import exists


class Transfers:
    """What sends shards of a draft and fetches others.  `there` are files that lie at the remote already.

    Methods raise CacheError where the remote fails, DamagedError for what is wrong there, WriteError for the disk here.
    """

    def __init__(self, remote: Remote, draft: Draft, contact: Contact, there: Collection[str]) -> None:
        self._remote, self._draft, self._contact, self._there = remote, draft, contact, there
        self._pool = ThreadPoolExecutor(remote.threads)

    def close(self) -> None:
        """Wait for what is under way, which ends at its block."""
        self._pool.shutdown(cancel_futures=True)

    def send(self, plans: Iterable[ShardPlan]) -> list[ShardEntry]:
        """Upload finished shards; return their manifest entries as they are there."""
        return list(self._pool.map(self._upload, plans))

    def lacking(self, entries: Iterable[ShardEntry]) -> list[ShardEntry]:
        """Return those whose files are not in the folder."""
        return [entry for entry in entries if not exists(self._draft.folder / entry.file)]

    def fetch(self, entries: Iterable[ShardEntry]) -> int:
        """Fetch files; return the bytes that came."""
        return sum(self._pool.map(lambda entry: self._files.take(entry, replace=False), entries))

    def agree(self, plans: Iterable[ShardPlan], theirs: Iterable[ShardEntry]) -> None:
        """Take those shards from there that were made here, too, and are of other bytes."""
        there = {entry.file: entry for entry in theirs}
        for plan in plans:
            mine = self._draft.entry(plan)
            if mine is not None and plan.file in there and mine.sha256 != there[plan.file].sha256:
                self._give_way(plan, there[plan.file])

    @property
    def _files(self) -> Fetch:
        return Fetch(self._draft.folder, self._remote, self._contact.advance)

    def _upload(self, plan: ShardPlan) -> ShardEntry:
        mine = self._draft.entry(plan)
        assert mine is not None, "it is sent when it is finished"
        source = Source(self._draft.folder / plan.file, mine.bytes, mine.sha256, self._contact.advance)
        if plan.file not in self._there and self._remote.create(plan.file, source):
            return mine
        noted = self._remote.stamp(plan.file, mine.bytes)
        return mine if noted == mine.sha256 else self._give_way(plan, replace(mine, sha256=noted))

    def _give_way(self, plan: ShardPlan, theirs: ShardEntry) -> ShardEntry:
        """Take a shard in place of the one that was made here; return what the manifest will say of it."""
        path = self._draft.folder / plan.file
        mine = store.read_regular(path, plan.most_bytes)
        self._files.take(theirs, replace=True)
        if (found := self._draft.renew(plan)) is not None:
            return found
        store.publish(path, mine, replace=True)
        raise DamagedError(f"{self._remote.where(plan.file)} is not what was planned, and stands in the way of what is")
