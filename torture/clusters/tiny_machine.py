"""`python -m torture.clusters.tiny_machine FOLDER URL SEED RECORD SECONDS`: a machine with a folder of its own.

It makes the tiny cache of `tiny_worker` with other machines through a remote, takes SECONDS for each range, writes down
what it begins, and publishes the cache.
"""

import sys
import time
from collections import defaultdict
from pathlib import Path

from cache import remotes, store
from cache.meeting.meeting import Meeting
from cache.remotes.base import Conditional
from cache.sharing import push
from cache.store import claims
from cache.store.claims import Claims
from cache.writing.draft import Draft
from cache.writing.writer import Shard
from torture.clusters.tiny_worker import LARGER, POLL, note
from torture.tiny_cache import ABOUT, Parts, shards


class Machine:
    """One that makes a cache in a folder; `numbers` changes the bytes that it makes, and no key."""

    def __init__(
        self, folder: Path, url: str, record: Path, seed: int = 0, *, seconds: float = 0, numbers: int = 0,
        parts: Parts = LARGER, poll: float = POLL,
    ) -> None:  # fmt: skip
        self._folder, self._url, self._record, self._seconds, self._poll = folder, url, record, seconds, poll
        self._parts, self._made = parts, defaultdict[str, list[Shard]](list)
        for shard in shards(seed, numbers, parts=parts):
            self._made[f"{shard.plan.part.name.partition('.')[0]}-{shard.plan.index:05d}"].append(shard)

    def work(self) -> str:
        """Make the cache beside other machines and publish it; return its id."""
        note(self._record, "start")
        remote = remotes.open(self._url)
        assert isinstance(remote, Conditional)
        with store.together(self._folder):
            self._draft = Draft(self._folder)
            self._draft.sweep()
            plans = {name: [shard.plan for shard in made] for name, made in self._made.items()}
            self._meeting = Meeting(remote, self._draft, plans, remote.listing())
            with Claims(self._folder) as self._claims, self._meeting.joined(self._claims):
                self._left = {name: list(made) for name, made in self._made.items()}
                while waiting := [name for name in self._left if self._lacking(name)]:
                    if not [name for name in waiting if self._take(name)]:
                        time.sleep(self._poll)
            rows = {name.partition(".")[0]: count for name, (_, count) in self._parts.items()}
            identity = self._draft.finish(ABOUT | {"tables": rows | {"pair": rows["mention"]}}, {})
            claims.clear(self._folder)
        push.push(self._folder, self._url)
        return identity

    def _lacking(self, name: str) -> list[Shard]:
        """Return the shards of a range that are still to be made; the others are adopted, each once."""
        origin, left = self._meeting.origin, self._left[name]
        self._left[name] = [shard for shard in left if not self._draft.adopt(shard.plan, origin(shard.plan))]
        return self._left[name]

    def _take(self, name: str) -> bool:
        """Make a range unless another is at it, here or elsewhere; return whether it is there."""
        if self._meeting.elsewhere(name):
            return False
        with self._claims.named(name) as mine:
            if not mine or not self._lacking(name):
                return mine
            with self._meeting.held(name) as mine:
                if mine:
                    note(self._record, f"range {name}")
                    time.sleep(self._seconds)
                    for shard in self._left.pop(name):
                        self._draft.save(shard)
            return mine


if __name__ == "__main__":
    Machine(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[4]), int(sys.argv[3]), seconds=float(sys.argv[5])).work()
