"""A machine at a meeting in a remote (cache.sharing.board): it sends what it finishes, and fetches what others finish.

Both go on in threads beside its work, and shards that come lie in the folder as if a process here had made them. A
remote that fails costs a warning and at worst the work of all the others, which this machine then does, too.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cache import manifests
from cache.manifests.entries import ShardEntry
from cache.meeting import contact
from cache.meeting.alone import Alone
from cache.meeting.contact import Contact
from cache.meeting.transfers import Transfers
from cache.remotes.base import Conditional, SlowError
from cache.remotes.meeting_names import MEETING
from cache.sharing import board, download
from cache.sharing.board import Board
from cache.store.claims import Claims
from cache.store.resumable_file import WriteError
from cache.writing.draft import FETCHED, KEPT, Draft
from cache.writing.writer import ShardPlan
from common.errors import CacheError
from common.output import say

MOST = 2  # groups that wait to be sent: what a machine that dies has made in vain
TRIES = 3  # of claiming, sending or fetching one group
Groups = Mapping[str, Sequence[ShardPlan]]  # what is claimed together, by name: all its planned shards


class Meeting(Alone):
    """A meeting that is joined when something is asked of it first.

    `there` are the files that are known to lie at the remote; it is asked for others when joined. No method raises an
    error of the remote.
    """

    def __init__(self, remote: Conditional, draft: Draft, groups: Groups, there: Collection[str]) -> None:
        self._remote, self._draft, self._groups, self._there = remote, draft, groups, set(there)
        self.name = board.meeting_of(plan.key for plans in groups.values() for plan in plans)
        self._board, self._contact, self._begun = Board(remote, self.name, groups.keys()), Contact(), False
        self._coming: dict[str, Future[bool]] = {}
        self._tries: dict[str, int] = {}
        self._unsent = False
        self._bad: set[str] = set()  # groups whose receipts are not to be taken
        self._fetched: set[str] = set()  # files
        self._agreed: set[str] = set()  # groups of which the bytes here are those there
        self._published: dict[str, ShardEntry] = {}  # where the cache was published meanwhile
        self._sending: deque[Future[None]] = deque()
        self._sender, self._fetcher, self._earlier = (ThreadPoolExecutor(1) for _ in range(3))
        self._transfers = Transfers(remote, draft, self._contact, self._there)
        self._staying = contextlib.ExitStack()

    @contextlib.contextmanager
    def joined(self, claims: Claims) -> Iterator[None]:
        """Take part in the block, at whose end all is sent."""
        self._claims = claims
        try:
            yield
            while self._sending:
                self._sending.popleft().result()
            self._contact.asked(self._agree, None)
        finally:
            self._contact.ended.set()
            for pool in (self._sender, self._fetcher, self._earlier):
                pool.shutdown(cancel_futures=True)
            self._transfers.close()
            if self._begun:
                self._contact.asked(self._board.drop_all, None)
            self._staying.close()

    def elsewhere(self, name: str) -> bool:
        """Return whether another machine is at a group, or it is on its way from there."""
        if not self._begun and self._contact.asked(self._join, False):
            self._begin()
        if not self._begun or not self._contact.there:
            return False
        self._contact.asked(self._look, None)
        if self._finished(name) and name not in self._bad:
            return self._comes(name)
        return self._board.busy(name)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Claim a group in the block, behind which it is sent; one that came and cannot be used is made without."""
        if not self._begun or self._contact.over or name in self._bad:
            yield True
            return
        mine = self._contact.asked(lambda: self._claim(name), True)
        try:
            yield mine
        except BaseException:
            self._contact.asked(lambda: self._board.drop(name), None)
            raise
        if mine:
            while len(self._sending) >= MOST:
                self._sending.popleft().result()
            self._sending.append(self._sender.submit(self._send, name))

    def origin(self, shard: ShardPlan) -> str:
        """Return where a finished shard in the folder is from."""
        return FETCHED if shard.file in self._fetched else KEPT

    def _begin(self) -> None:
        """Begin to show that we live, and send what was finished here before."""
        self._begun = True
        threading.Thread(target=self._beat, name="melcache meeting", daemon=True).start()
        for name, plans in self._groups.items():
            kept = all(self._draft.entry(plan) for plan in plans)
            if kept and not self._finished(name) and any(plan.file not in self._there for plan in plans):
                self._earlier.submit(self._send_earlier, name)

    def _join(self) -> bool:
        url = self._remote.url
        self._staying.enter_context(self._remote.at_work())
        if not self._board.honest():
            say(f"{url} does not support conditional writes, so no machines meet there: this one makes all by itself")
            self._contact.over = True
            return False
        if others := sorted(self._board.others()):
            say(
                f"warning: machines of another plan meet or have met at {url} ({MEETING}/{others[0]}-...), and "
                f"this one, of plan {self.name}, does not take part. To meet, give all the same release, options, "
                "precision, weights and version of melcache, and rows in one order (--reorder)"
            )
        self._there.update(self._remote.listing())  # which need not be sent: a worker by plan knows none
        self._board.look(now=True)
        if not self._board.finished:
            self._look_for_cache()  # it may be finished since it was asked for
        done = sum(map(self._finished, self._groups))
        say(f"meeting {self.name} at {url}: {done:,} of {len(self._groups):,} tasks are finished there")
        return True

    def _beat(self) -> None:
        while not self._contact.ended.wait(board.BEAT) and not self._contact.over:
            self._contact.asked(self._board.beat, None)

    def _look(self) -> None:
        self._board.look()
        self._follow()

    def _claim(self, name: str) -> bool:
        mine = self._board.claim(name)
        self._follow()
        if mine and self._published:
            self._board.drop(name)
        if not (mine or self._board.busy(name) or self._finished(name)):
            self._refused(name)
        return mine and not self._published

    def _refused(self, name: str) -> None:
        """Note that a claim cannot be written, though nobody is seen to have one."""
        self._tries[name] = self._tries.get(name, 0) + 1
        if self._tries[name] == TRIES:
            say(f"warning: {name} cannot be claimed at {self._remote.url}, where nobody is at it: it is made here")
            self._bad.add(name)

    def _follow(self) -> None:
        """Where what others had put there is gone, go by the cache that they have published."""
        if self._board.lost:
            self._board.lost = False
            self._look_for_cache()

    def _look_for_cache(self) -> None:
        """See whether the cache is published: then the others have gone, and what they had put there is gone, too."""
        data = self._remote.state().data or b""
        with contextlib.suppress(CacheError):  # none, or a damaged one
            found = manifests.read(data, self._remote.where(manifests.NAME))
            if self.name in board.meetings_of(found):
                self._published = {entry.file: entry for entry in found.shards}

    def _finished(self, name: str) -> bool:
        return bool(self._published) or name in self._board.finished

    def _comes(self, name: str) -> bool:
        """Let a group come; return whether it is still on its way."""
        if name in self._coming and self._coming[name].done() and self._coming.pop(name).result():
            self._bad.add(name)  # it is here: whoever asks once more has found it wrong
            return False
        if name not in self._coming:
            self._coming[name] = self._fetcher.submit(self._fetch, name)
        return True

    def _fetch(self, name: str) -> bool:
        """Fetch a group unless another process here is at it; return whether it is here, or will not come."""
        with self._claims.named(name) as mine:
            if not mine or not self._contact.there:
                return False
            try:
                if (entries := self._entries(name)) is None:
                    self._board.lost = True
                    return False
                lacking = self._transfers.lacking(entries)
                self._fetched |= {entry.file for entry in lacking}
                self.bytes += self._transfers.fetch(lacking)
            except WriteError:
                raise
            except CacheError as error:
                return self._not_come(name, error)
        if len(lacking) == len(entries):
            self._agreed.add(name)
        return True

    def _agree(self) -> None:
        """Where others have sent what was made here, too, take their bytes, be it that nothing was left to make."""
        if self._contact.ended.is_set() or not (self._begun or self._join()):
            return
        self._look()
        names = [name for name in self._groups if self._finished(name) and name not in self._agreed]
        with ThreadPoolExecutor(self._remote.threads) as pool:
            list(pool.map(self._agree_on, names))

    def _agree_on(self, name: str) -> None:
        try:
            self._transfers.agree(self._groups[name], self._entries(name) or ())
        except download.DamagedError as error:
            say(f"warning: {error}")

    def _entries(self, name: str) -> list[ShardEntry] | None:
        plans = self._groups[name]
        if self._published:
            found = [self._published[plan.file] for plan in plans if plan.file in self._published]
            return board.fitting(found, plans, self._remote.where(manifests.NAME))
        return self._board.receipt(name, plans)

    def _not_come(self, name: str, error: CacheError) -> bool:
        """Note that a group did not come; return whether it will not."""
        self._tries[name] = self._tries.get(name, 0) + 1
        if isinstance(error, SlowError):
            self._contact.failed(error)
        elif isinstance(error, download.DamagedError) or self._tries[name] == TRIES:
            say(f"warning: {error}. What others have made of {name} is made here once more")
            return True
        return False

    def _send_earlier(self, name: str) -> None:
        if self._contact.asked(lambda: self._board.claim(name), False):
            self._send(name)

    def _not_sent(self, name: str, error: CacheError) -> None:
        if not self._unsent:
            say(f"warning: {error}. What cannot be sent, other machines make once more")
        self._unsent = True
        self._contact.asked(lambda: self._board.drop(name), None)

    def _send(self, name: str) -> None:
        """Upload the shards of a group, then its receipt; tried again where that fails, and left at last.

        Once that was in vain each is tried once: work waits for what is sent, and a full disk stays full.
        """
        tries = 1 if self._unsent else TRIES
        for turn in range(tries):
            if self._contact.over or (turn and self._contact.ended.wait(contact.RETRY)):
                return
            try:
                self._board.finish(name, self._transfers.send(self._groups[name]))
            except WriteError:
                raise
            except SlowError as error:
                self._contact.failed(error)
            except CacheError as error:
                if isinstance(error, download.DamagedError) or turn == tries - 1:
                    return self._not_sent(name, error)
            else:
                self._agreed.add(name)
                return
