"""What others have computed: the remote that an extraction asks before it computes.

What a remote fails to give costs a warning and is computed; a wrong URL or a full disk here ends the extraction.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from cache import manifests, remotes
from cache.manifests.entries import Manifest, ShardEntry
from cache.meeting.alone import Alone
from cache.meeting.meeting import Groups, Meeting
from cache.remotes.base import Conditional, Remote, SlowError
from cache.sharing import download, pull, push, remote_shards, signing
from cache.sharing.parallel import Transfer
from cache.sharing.remote_shards import Listed
from cache.store.resumable_file import WriteError
from cache.writing.draft import FETCHED, KEPT, MADE, TAKEN, Draft
from cache.writing.writer import ShardPlan, Todo
from common import places
from common.errors import CacheError
from common.foreign import printable, shell
from common.output import duration, say, size
from common.records import Dataset
from extract.config import ExtractConfig
from extract.planning import row_order
from extract.planning.row_order import EarlierRows
from extract.reading import string_columns

FAILURES = 3  # shards that the remote fails to deliver before it is asked no more: a single failure may be that file's


class Shared:
    """A remote as it was when it was asked, once; none where the config names none.

    Raises ConfigError for a URL that cannot be one. `manifest` is what is published there, None where nothing is or
    the remote did not answer; `taken` are the shards that came from there, in `bytes`.
    """

    def __init__(self, config: ExtractConfig) -> None:
        self.url, self._folder, self._config = config.url, config.folder, config
        self.remote = remotes.open(config.url) if config.url else None
        self.manifest: Manifest | None = None
        self.taken: list[Listed] = []
        self.bytes = 0
        self._meetings: list[Meeting] = []
        self._listing: dict[str, int] = {}
        self._lock, self._lost = threading.Lock(), 0
        self._failed: list[CacheError] = []
        self._signers = None if config.signers is None else places.local(str(config.signers))
        self._doubts: dict[str, str] = {}  # by cache id, why it is not gone by; "" for nothing
        if self._signers is not None:
            signing.check_signers(self._signers)
        if self.remote is not None and not config.by_plan:  # else the process that planned has asked
            self._ask(self.remote)

    def order(self, release: Dataset) -> EarlierRows | None:
        """Return how rows of a cache there are ordered: one as long as the release, else the published one; or None."""
        if self.remote is None or self.manifest is None:
            return None
        remote, counts = self.remote, (len(release.entities), len(release.mentions))
        try:
            listed = filter(self._trusts, remote_shards.manifests_of(remote, self._listing, self.manifest))
            alike = (found for found in listed if (found.tables["entity"], found.tables["mention"]) == counts)
            manifest = next(alike, self.manifest)
            if not row_order.worth(manifest, counts, self._config):
                return None
            most = {table: string_columns.MOST_BYTES * manifest.tables[table] for table in row_order.ORDERED}
            return EarlierRows.told(
                manifest, lambda part: remote_shards.column(remote, manifest, part.column("id"), most[part.table])
            )
        except CacheError as error:
            self._lose(error)
            say(f"warning: {error}. Rows are numbered anew, so little of what the remote has may be usable")
            return None

    def offers(self, missing: Iterable[ShardPlan]) -> dict[str, Listed]:
        """Return, by file name, those shards that lie there: of this key, made by this recipe, in this layout."""
        if self.remote is None or not self._listing:
            return {}
        plans = {plan.file: plan for plan in missing}
        try:
            found = remote_shards.shards(self.remote, plans, self._listing, self.manifest, self._trusts)
        except CacheError as error:
            self._lose(error)
            say(f"warning: {error}. Everything that is missing is computed here")
            return {}
        good = {name: listed for name, listed in found.items() if _is(listed, plans[name])}
        whole = {name: listed for name, listed in good.items() if self._listing[name] == listed.entry.bytes}
        if damaged := sorted(good.keys() - whole.keys()):
            say(
                f"warning: {len(damaged):,} files at {self.url}, the first of them {damaged[0]}, do not have "
                "the listed size and are computed here. Whoever has the cache repairs them with: melcache push "
                f"{shell(self._folder.name)} "
                f"{shell(self.url)} --check"
            )
        return whole

    def take(self, todo: list[Todo], draft: Draft) -> list[Todo]:
        """Fetch what lies there of the missing shards into the draft, several at once; return what is still to do."""
        missing = [shard for item in todo for shard in item.missing]
        offers = self.offers(missing)
        if self.remote is None or not offers:
            return todo
        entries = [listed.entry for listed in offers.values()]
        download.check_space(self._folder, entries, f"fetching from {self.url}", "Make room, or name another --shards")
        total = sum(entry.bytes for entry in entries)
        with (
            contextlib.suppress(_GivenUpError),
            Transfer(total, f"fetch {self._folder.name}", self.remote.threads) as transfer,
        ):
            files = download.Fetch(self._folder, self.remote, transfer.advance)
            transfer.each(lambda entry: self._one(files, entry), entries)
        came = {shard.file for shard in missing if shard.file in offers and draft.adopt(shard, FETCHED)}
        self.taken = [listed for name, listed in offers.items() if name in came]
        if lacking := len(offers) - len(came):
            strange = (f"{name}: {draft.wrong[name]}" for name in offers if name in draft.wrong)
            reason = next(iter([*self._failed, *strange]), "their layout is not that of this version")
            say(f"warning: {lacking:,} shards could not be fetched and are computed here: {reason}")
        return [replace(item, missing=[shard for shard in item.missing if shard.file not in came]) for item in todo]

    def meeting(self, groups: Callable[[], Groups], draft: Draft) -> Alone:
        """Return the meeting there of machines that make shards of one plan: with --push, where that is possible."""
        if not self._config.push or self.remote is None:
            return Alone()
        if self._signers is not None:
            say("--signers: what other machines finish meanwhile is not signed, so this one makes all that is missing")
            return Alone()
        if not isinstance(self.remote, Conditional) or not self.remote.conditional:
            say(f"{self.url} is no place for machines to meet: this one makes all that is missing, then publishes")
            return Alone()
        self._meetings.append(found := Meeting(self.remote, draft, groups(), self._listing))
        return found

    def push(self) -> str:
        """Publish the finished cache there, in the place of one that it has grown from, and return what was done.

        Raises CacheError where that is refused.
        """
        there, mine = self.manifest, manifests.load(self._folder)
        grown = there is not None and there.id != mine.id and _has_grown(there, mine)
        try:
            return str(push.push(self._folder, self.url, replace=grown))  # its files stay
        except CacheError as error:
            hand = f"To publish it: melcache push {shell(self._folder)} {shell(self.url)} --replace"
            raise CacheError(f"{self._folder} is finished, but not published: {error}. {hand}") from error

    def account(self, draft: Draft) -> str:
        """Return in one line what was present, what was fetched and what was computed."""
        kept, fetched, made = (_count(draft.shards(origin)) for origin in (KEPT, FETCHED, MADE))
        came = self.bytes + sum(meeting.bytes for meeting in self._meetings)
        gain = f" ({size(came)}{self._saved()})" if came else ""
        beside = f", {_count(taken)} taken from caches beside" if (taken := draft.shards(TAKEN)) else ""
        return f"shards: {kept} present locally{beside}, {fetched} fetched from {self.url}{gain}, {made} computed"

    def _saved(self) -> str:
        told = [listed.seconds for listed in self.taken if listed.seconds is not None]
        least = "at least " if len(told) < len(self.taken) or self._meetings else ""
        return f", saving {least}{duration(sum(told))} by the rates recorded there" if told else ""

    def _ask(self, remote: Remote) -> None:
        try:
            data = remote.state().data
            self._listing = remote.listing()
            if data is None:
                hint = "" if self._config.push else pull.hint(remote, self._folder.name)
                say(f"nothing is published at {self.url}{' yet' * self._config.push}.{hint}")
                return
            found = manifests.read(data, remote.where(manifests.NAME))
            if not self._trusts(found):
                say(f"warning: {self._doubts[found.id]}. None of its files are used")
                return
            self.manifest = found
            if (name := self.manifest.dataset.name) != self._folder.name:
                say(f"warning: {self.url} holds a cache of {name}, this is one of {self._folder.name}")
        except CacheError as error:
            self._lose(error)
            say(f"warning: {error}. What it does not deliver is computed here")

    def _trusts(self, manifest: Manifest) -> bool:
        """Return whether a manifest there is to be trusted: where signers are asked for, one of them has signed it."""
        if self._signers is None or self.remote is None:
            return True
        identity = manifest.id
        if identity not in self._doubts:
            try:
                signature = signing.of_remote(self.remote, identity)
                who = signing.verify(identity, signature, self._signers, self.url)
                self._doubts[identity] = ""
                say(f"{self.url}: cache {identity[:16]}... is signed by {printable(who)}")
            except SlowError:
                raise
            except CacheError as error:
                self._doubts[identity] = str(error)
        return not self._doubts[identity]

    def _lose(self, error: CacheError) -> None:
        """Ask nothing more of a remote that is too slow to be worth waiting for."""
        if isinstance(error, SlowError):
            self.remote, self._listing = None, {}

    def _one(self, files: download.Fetch, entry: ShardEntry) -> None:
        """Take a shard, or remember why it does not come."""
        try:
            taken = files.take(entry, replace=False)
        except WriteError:
            raise
        except CacheError as error:
            with self._lock:
                self._failed.append(error)
                self._lose(error)
                self._lost += not isinstance(error, download.DamagedError)
                if self._lost >= FAILURES or isinstance(error, SlowError):
                    raise _GivenUpError from error
        else:
            with self._lock:
                self.bytes += taken


class _GivenUpError(Exception):
    """The remote has failed too often."""


def _count(shards: Counter[str]) -> str:
    return f"{sum(shards.values()):,} in {len(shards)} parts" if shards else "none"


def _has_grown(before: Manifest, now: Manifest) -> bool:
    """Whether a cache has all parts of another, by the same recipes, of its rows and perhaps more behind them."""
    rows, recipes = before.generations or (), {name: part.fingerprint for name, part in now.parts.items()}
    return (
        before.dataset.name == now.dataset.name
        and bool(rows)
        and rows == (now.generations or ())[: len(rows)]
        and all(recipes.get(name) == part.fingerprint for name, part in before.parts.items())
    )


def _is(listed: Listed, plan: ShardPlan) -> bool:
    """Whether a listed shard is the planned one: a file name holds only 12 digits of its key."""
    entry, part = listed.entry, listed.manifest.parts.get(plan.part.name)
    same = (entry.key, entry.rows) == (plan.key, plan.rows) and part == plan.part.manifest_entry
    return same and entry.bytes <= plan.most_bytes
