"""Publish a cache elsewhere: shards first, the manifest last, and only if no one else published meanwhile."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import manifests, remotes, store
from cache.manifests.entries import Manifest, ShardEntry
from cache.remotes.base import CARD, CARD_BYTES, MovedError, Publication, Remote, Source, State
from cache.remotes.meeting_names import MEETING
from cache.sharing import board, card, remote_shards
from cache.sharing.parallel import Transfer
from cache.sharing.signing import SIGNATURE_BYTES
from common.errors import CacheError, ConfigError
from common.foreign import shell
from common.output import duration, say, size
from common.paths import is_file

RACES = 5  # publications by others that left the manifest as it was, such as an edited card on the Hub


@dataclass(frozen=True)
class Pushed:
    """What a push did: bytes `sent` of the cache's `total`, the rest was there; the small files that are `news`."""

    id: str
    url: str
    sent: int
    total: int
    news: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        if not self.news and not self.sent:
            return f"{self.url}: cache {self.id} is published already; nothing to do"
        new = "manifest" in self.news
        renewed = [f"{size(self.sent)} of shards"] * bool(self.sent) + list(self.news)
        sent = f"{size(self.sent)} of {size(self.total)} sent" if self.sent else f"all {size(self.total)} were there"
        done = f"published, {sent}" if new else f"renewed {', '.join(renewed)}"
        return f"{self.url}: {done}, in {duration(self.seconds)}\ncache id {self.id}"


def push(folder: Path, url: str, *, replace: bool = False, check: bool = False) -> Pushed:
    """Publish the cache in `folder` at `url`, where {name} is the folder's, and return what was done.

    `replace` publishes over another cache, whose files stay; `check` reads what is there and mends what is damaged.
    Raises CacheError: nothing is published then, and what has been sent is not sent again.
    """
    began, remote = time.monotonic(), remotes.open(url, folder.resolve().name)
    manifest = manifests.load(folder)
    _refuse_itself(folder, remote)
    if whole := manifest.provenance.whole_id:
        raise CacheError(
            f"{folder} holds only parts of cache {whole[:16]}..., and only a whole cache is "
            f"published. Pull the rest first: melcache pull {shell(folder.name)} URL"
        )
    state = remote.state()
    there = _published(remote, state, replace=replace)
    if there is not None and there.id != manifest.id and not replace:
        raise CacheError(_other(remote, there, manifest))
    with remote.at_work():
        sent = _Upload(folder, remote, check).all(manifest.shards, there)
        news = _publish(manifest, folder, remote, state, sent, replace)
        _end_meetings(remote, manifest, there)
    return Pushed(manifest.id, remote.url, sent, manifest.bytes, news, time.monotonic() - began)


class _Upload:
    """The shards of a cache on their way to a remote; `check` reads those that are there."""

    def __init__(self, folder: Path, remote: Remote, check: bool) -> None:
        self._folder, self._remote, self._check, self._listing = folder, remote, check, remote.listing()
        self._known: dict[str, ShardEntry] = {}  # what the manifests there list

    def all(self, shards: Sequence[ShardEntry], published: Manifest | None) -> int:
        """Send what is not there and return its bytes; refuse, before anything is sent, what is there otherwise."""
        found = remote_shards.shards(self._remote, [shard.file for shard in shards], self._listing, published)
        self._known = {name: listed.entry for name, listed in found.items()}
        for shard in shards:
            if self._known.get(shard.file, shard).sha256 != shard.sha256:
                raise CacheError(
                    f"{self._remote.where(shard.file)} exists with other bytes: the same recipe, computed on "
                    "another machine. Pull that cache, or push to another URL; what is published is never overwritten"
                )
        total = sum(shard.bytes for shard in shards)
        with Transfer(total, f"push {self._folder.name}", self._remote.threads) as self._transfer:
            return sum(self._transfer.each(self._one, shards))

    def _one(self, shard: ShardEntry) -> int:
        name, size = shard.file, shard.bytes
        held = self._listing.get(name)
        if held is not None and name not in self._known:  # of a push that was cut off, or is under way
            self._compare(shard)
        elif held is None or held != size or (self._check and self._hash(shard) != shard.sha256):
            source = Source(self._folder / name, size, shard.sha256, self._transfer.advance)
            if not self._remote.create(name, source, mend=held is not None):
                self._compare(shard)
            return size
        self._transfer.advance(size)
        return 0

    def _hash(self, shard: ShardEntry) -> str:
        return self._remote.sha256(shard.file, shard.bytes)

    def _compare(self, shard: ShardEntry) -> None:
        name = shard.file
        held = self._listing.get(name, shard.bytes)
        noted = self._remote.stamp(name, held) if held == shard.bytes else ""
        if noted != shard.sha256 or (self._check and self._hash(shard) != shard.sha256):
            raise CacheError(
                f"{self._remote.where(name)} exists with other bytes, and no manifest lists it: another push is "
                "under way, or one was cut off. Wait for it, or remove that file, and push again"
            )


def _publish(
    manifest: Manifest, folder: Path, remote: Remote, state: State, sent: int, replace: bool
) -> tuple[str, ...]:
    """Publish the manifest, its copy, its signature and the card; return which of them were news."""
    before, copied = _published(remote, state, replace=replace), manifests.copy_of(manifest.id) in remote.listing()
    for _ in range(RACES):
        there = _published(remote, state, replace=replace)
        if there is not None and there.id not in (manifest.id, before and before.id):
            raise CacheError(_lost(remote, there, manifest))
        shown = there if there is not None and there.id == manifest.id else manifest  # but for its provenance
        signature, readme = _signature(folder, manifest, remote), _card(shown, remote)
        news = {"manifest": shown is manifest, "copy": not copied, "signature": signature, "card": readme}
        if not any(news.values()) and not (sent and remote.seen_when_published):
            return ()
        what = Publication(manifest.id, manifests.written(shown.as_json()), signature, readme)
        try:
            remote.publish(what, state.version)
        except MovedError:
            state = remote.state()
        else:
            return tuple(name for name, new in news.items() if new)
    raise CacheError(f"{remote.url} keeps being changed by others; push again later")


def _published(remote: Remote, state: State, *, replace: bool) -> Manifest | None:
    """Return the manifest that is published, None where there is none; or a damaged one, to be replaced."""
    if state.data is None:
        return None
    try:
        return manifests.read(state.data, remote.where(manifests.NAME))
    except CacheError as error:
        if replace:
            return None
        raise CacheError(f"{error}; or publish over it: melcache push --replace") from error


def _end_meetings(remote: Remote, *published: Manifest | None) -> None:
    """Remove what machines that met there have left, for which a finished cache has no use."""
    try:
        board.clear(remote, *filter(None, published))
    except CacheError as error:
        say(f"warning: {error}. What is left in {remote.where(MEETING)} does no harm")


def _signature(folder: Path, manifest: Manifest, remote: Remote) -> bytes | None:
    name = manifests.signature_of(manifest.id)
    if not is_file(folder / name):
        return None
    mine = store.read_regular(folder / name, SIGNATURE_BYTES)
    return mine if remote.read(name, SIGNATURE_BYTES) != mine else None


def _card(manifest: Manifest, remote: Remote) -> bytes | None:
    """Return the card to be written, None where it is there or a person's own."""
    new = card.page(manifest, card.front_matter(manifest) if remote.front_matter else "")
    try:
        old = remote.read(CARD, CARD_BYTES)
    except CacheError:  # larger than any of ours
        return None
    return new.encode() if old is None or (card.ours(old) and old != new.encode()) else None


def _refuse_itself(folder: Path, remote: Remote) -> None:
    if remote.path is not None and os.path.realpath(remote.path) == os.path.realpath(folder):
        raise ConfigError(f"{remote.url} is the folder of the cache itself; give the place where others will find it")


def _other(remote: Remote, there: Manifest, mine: Manifest) -> str:
    held, files = (({shard.file: shard.sha256 for shard in m.shards}.items()) for m in (there, mine))
    inside = ", all of which yours has too" if held <= files else ""
    return (
        f"{remote.url} has another cache{inside}: {there.dataset.name} {there.id}, made "
        f"{there.provenance.made}. Pull that one, or publish yours with --replace: "
        "the other stays there, under its --id"
    )


def _lost(remote: Remote, there: Manifest, mine: Manifest) -> str:
    stays = ""
    if manifests.copy_of(mine.id) in remote.listing():
        name = mine.dataset.name
        stays = (
            f". What this push has sent stays there: melcache pull {shell(name)} {shell(remote.url)} "
            f"--id {shell(mine.id)}"
        )
    return (
        f"someone else has just published cache {there.id} at {remote.url}. Pull it, or push again with "
        f"--replace{stays}"
    )
