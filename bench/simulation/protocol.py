"""Workers that divide tasks by claims, as events in time: extract.computing.missing_shards.Sharing without encoders.

Each worker is a generator that yields how many seconds pass before it goes on. It walks the tasks of a table in order,
and takes one that nobody is at: it encodes what that owns, waits for the tasks that it copies from, of which it takes
those that nobody is at, copies and saves. Where nothing of the table is left to take, it goes ahead with one of a
later table; pairs begin when all entities and their own mentions are known to be finished. At tasks of others it looks
again as often as that does (pauses), here at least every COARSE of what a task takes, for the simulation's sake.
"""

import heapq
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from cache.store.claims import BEAT, QUIET
from extract.computing.missing_shards import pauses
from extract.computing.tasks import PAIR
from extract.planning.shards import RANGED

COARSE = 0.002  # share of the longest task of a group; a tenth of it where a task waits for one that it copies from

Passing = Generator[float, None, None]
Taking = Generator[float, None, bool]
Item = tuple[int, int]  # a group's number, and a range's


@dataclass(frozen=True)
class Group:
    """A task a range of a table: seconds to encode what each owns, to copy and save, and for another to adopt it.

    `copied` are the tasks of the group from which each copies, by their numbers; none where it is empty. Groups stand
    as tasks.split has them.
    """

    table: str
    own: Sequence[float]
    settle: float
    adopt: float
    copied: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Cost:
    """Seconds beside the tasks: planning, which is done once; starting a worker; looking at a claim; the manifest."""

    plan: float = 0.0
    start: float = 0.0
    look: float = 0.0005
    finish: float = 0.0

    @property
    def beside(self) -> float:
        """All of it but looking: where no worker dies, so much more than the tasks take."""
        return self.plan + self.start + self.finish


@dataclass
class Claim:
    """Who is at a task, since when, and when that process dies, if it does."""

    worker: int
    since: float
    dies: float = float("inf")

    def stamp(self, now: float) -> int:
        """Return how often the claim has been touched."""
        return int((min(now, self.dies) - self.since) // BEAT)


@dataclass
class World:
    """What all workers see; `computed` counts tasks that were computed, `now` is in seconds."""

    groups: Sequence[Group]
    cost: Cost
    same_machine: bool
    now: float = 0.0
    computed: int = 0
    claims: dict[Item, Claim] = field(default_factory=dict)
    finished: set[Item] = field(default_factory=set)


class Worker:
    """One process.  It dies at the moment `dies`."""

    def __init__(self, world: World, number: int, dies: float) -> None:
        self._world, self._number, self.dies = world, number, dies
        self._open = {(g, i): None for g, group in enumerate(world.groups) for i in range(len(group.own))}
        self._spent = 0.0
        self._seen: dict[Item, tuple[tuple[int, int], float]] = {}

    def run(self) -> Passing:
        """Do what a worker does, from its start to the end of its last table."""
        self._spent = self._world.cost.start
        for table in RANGED:
            mine = [g for g, group in enumerate(self._world.groups) if group.table == table]
            least, waits = max([0.0, *(COARSE * max(self._world.groups[g].own) for g in mine)]), pauses()
            while waiting := [item for item in self._open if item[0] in mine]:
                took = False
                for item in waiting:
                    if not self._busy(item):
                        took |= yield from self._take(item)
                if took or (yield from self._ahead(mine)):
                    waits = pauses()
                    continue
                yield from self._pass(max(next(waits), least))
        yield from self._pass()

    def _ahead(self, mine: Sequence[int]) -> Taking:
        for item in [item for item in self._open if item[0] not in mine]:
            if not self._busy(item) and (yield from self._take(item)):
                return True
        return False

    def _busy(self, item: Item) -> bool:
        """Whether one who lives is at a task: as `_take` finds, which takes longer to say so."""
        world = self._world
        claim = world.claims.get(item)
        if claim is None or world.now >= claim.dies or item in world.finished:
            return False
        self._spent += world.cost.look
        return True

    def _take(self, item: Item) -> Taking:
        if item not in self._open:
            return True
        if not self._ready(item):
            return False
        if not self._adopted(item):
            if not self._free(item):
                return False
            yield from self._pass()
            if not self._adopted(item):  # it looks again once it has the claim
                if not self._free(item):
                    return False
                yield from self._compute(item)
        self._open.pop(item, None)
        return True

    def _ready(self, item: Item) -> bool:
        groups = self._world.groups
        if groups[item[0]].table != PAIR:
            return True
        first = groups[next(iter(self._open))[0]].table
        own = [g for g, group in enumerate(groups) if group.table == "mention"]
        return first != RANGED[0] and not any((g, item[1]) in self._open for g in own)

    def _adopted(self, item: Item) -> bool:
        self._spent += self._world.cost.look
        if item not in self._world.finished:
            return False
        self._spent += self._world.groups[item[0]].adopt
        return True

    def _free(self, item: Item) -> bool:
        return item not in self._world.claims or self._void(item)

    def _compute(self, item: Item) -> Passing:
        world, (number, index) = self._world, item
        group = world.groups[number]
        world.claims[item] = Claim(self._number, world.now, self.dies)
        yield group.own[index]
        for other in group.copied[index] if group.copied else ():
            waits = pauses()
            while not (yield from self._take((number, other))):
                yield from self._pass(max(next(waits), COARSE / 10 * max(group.own)))
        yield from self._pass(group.settle)
        world.computed += 1
        world.finished.add(item)
        world.claims.pop(item, None)

    def _pass(self, seconds: float = 0.0) -> Passing:
        """Let time pass, with what looking and adopting has taken since."""
        spent, self._spent = self._spent, 0.0
        if spent + seconds:
            yield spent + seconds

    def _void(self, item: Item) -> bool:
        """Whether the one at a task is known to be dead: at once on the same machine, else when it is quiet."""
        world, claim = self._world, self._world.claims[item]
        if world.same_machine:
            return world.now >= claim.dies
        known = (claim.worker, claim.stamp(world.now))
        was, since = self._seen.get(item, (known, world.now))
        self._seen[item] = (known, since if was == known else world.now)
        return world.now - self._seen[item][1] > QUIET


def run(
    groups: Sequence[Group],
    workers: int,
    cost: Cost,
    *,
    lifetime: float = float("inf"),
    replaced: float | None = None,
    same_machine: bool = False,
    seed: int = 0,
) -> World:
    """Let workers divide tasks; `World.now` is then the time until the cache is whole.

    Each lives for `lifetime` seconds in the mean, the last one for ever; one that has died is `replaced` after so many
    seconds, or never.
    """
    draw = random.Random(seed)
    world = World(groups, cost, same_machine, now=cost.plan)
    events: list[tuple[float, int, Worker, Passing]] = []

    def born(at: float, number: int) -> None:
        mortal = lifetime < float("inf") and number < workers - 1
        worker = Worker(world, number, at + draw.expovariate(1 / lifetime) if mortal else float("inf"))
        heapq.heappush(events, (at, number, worker, worker.run()))

    for number in range(workers):
        born(cost.plan, number)
    whole = sum(len(group.own) for group in groups)
    while events:
        at, number, worker, steps = heapq.heappop(events)
        world.now = min(at, worker.dies)
        if at >= worker.dies:
            if replaced is not None and len(world.finished) < whole:
                born(worker.dies + replaced, number)
            continue
        try:
            passing = next(steps)
        except StopIteration:
            break
        heapq.heappush(events, (at + passing, number, worker, steps))
    world.now += cost.finish
    return world
