"""The real protocol, with processes that sleep in place of encoding, beside its simulation."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.simulation import protocol
from bench.simulation.protocol import Cost, Group
from cache.meeting.meeting import Alone
from cache.names import PartName
from cache.store.claims import Claims
from cache.writing.writer import PartPlan, ShardPlan
from extract.computing.missing_shards import Sharing
from extract.computing.tasks import REST, Task

GROUPS = (
    Group("entity", [1.0, 1.4, 0.8, 1.2] * 6, 0.02, 0.0),
    Group("mention", [0.6, 1.0] * 12, 0.02, 0.0, copied=[range(i) for i in range(24)]),
)


class Sleeping:
    """What Sharing asks of a Work, in a folder: an empty file for each task that is finished."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.draft, self.meeting = folder, self, Alone()

    def adopt(self, shard: ShardPlan, origin: str) -> bool:
        """Whether a task is finished."""
        return (self._folder / shard.file).exists()

    def count(self, task: Task) -> int:
        """Return 1: nobody counts."""
        return 1

    def when_saved(self, drop: Callable[[], None]) -> None:
        """Drop a claim."""
        drop()


class Napping(Sharing):
    """Sharing whose tasks are slept through."""

    def _finish(self, task: Task, missing: list[ShardPlan]) -> None:
        [group] = [group for group in GROUPS if group.table == task.table]
        for shard in missing:
            time.sleep(group.own[task.index])
            for other in group.copied[task.index] if group.copied else ():
                waits = protocol.pauses()
                while (key := (task.table, other, REST)) in self._open and not self._take(self._open[key]):
                    time.sleep(next(waits))
            time.sleep(group.settle)
            (self._work.draft._folder / shard.file).touch()


def work(folder: Path) -> None:
    """Be a worker."""
    split = []
    for group in GROUPS:
        part = PartPlan(PartName(f"{group.table}.ids"), {}, {})
        shards = (ShardPlan(part, i, i, 1, f"{i:064x}") for i in range(len(group.own)))
        split += [Task(group.table, shard.index, REST, (shard,)) for shard in shards]
    with Claims(folder) as claims:
        sharing = Napping(Sleeping(folder), split, claims)
        for group in GROUPS:
            sharing.finish(group.table)


def compare(folder: Path, counts: Sequence[int]) -> list[dict[str, float]]:
    """Return, for numbers of workers, the seconds of real processes and those of the simulation."""
    rows = []
    for count in counts:
        (place := folder / str(count)).mkdir()
        begin, pids = time.monotonic(), []
        for _ in range(count):
            if (pid := os.fork()) == 0:
                work(place)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        took = time.monotonic() - begin
        simulated = protocol.run(GROUPS, count, Cost(), same_machine=True).now
        rows.append({"workers": count, "seconds": round(took, 2), "simulated": round(simulated, 2)})
    return rows
