"""What a machine does that meets nobody; what one that does (cache.meeting.meeting) does otherwise."""

import contextlib
from collections.abc import Iterator

from cache.store.claims import Claims
from cache.writing.draft import KEPT
from cache.writing.writer import ShardPlan


class Alone:
    """No meeting: every group is this process's to make."""

    bytes = 0  # that came from others

    @contextlib.contextmanager
    def joined(self, claims: Claims) -> Iterator[None]:
        """Take part in the block, at whose end all is sent.  `claims` are those in the folder."""
        yield

    def elsewhere(self, name: str) -> bool:
        """Return whether another machine is at a group, or it is on its way from there.  Raises WriteError."""
        return False

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Claim a group in the block, behind which its shards are there: whether it is this machine's to make."""
        yield True

    def origin(self, shard: ShardPlan) -> str:
        """Return where a finished shard in the folder is from."""
        return KEPT
