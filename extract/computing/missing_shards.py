"""Compute the missing shards of a plan, task by task, beside any other process that does."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import dropwhile, islice

from cache.meeting.alone import Alone
from cache.store.claims import Claims
from cache.writing.draft import Draft
from cache.writing.writer import ShardPlan, Todo
from common.output import Progress, say, table
from extract.computing import tasks
from extract.computing.derived_parts import Derived
from extract.computing.overlap import Spans, Writing
from extract.computing.part_clock import Clock
from extract.computing.picture_parts import Pictures
from extract.computing.row_range import Range
from extract.computing.tasks import PAIR, TEXTS, Key, Task
from extract.computing.text_parts import Texts
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.shards import RANGED, Plan

DEAD = "Those of the dead are taken over after a minute or two of silence"
LONG = 5.0  # seconds of waiting that are worth a line
SOON, POLL, MORE = 0.01, 0.5, 1.25  # seconds between two looks at others' work: at first, at most, times so many each


class Work:
    """One extraction under way.  `draft` holds what is finished, `clock` says how long each part took.

    `come` counts the shards that its workers have computed. At a `meeting` it shares the work with machines elsewhere.
    """

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft, config: ExtractConfig) -> None:
        self.plan, self.encoders, self.draft, self.clock = plan, encoders, draft, Clock()
        self.come = 0
        self.spans = Spans()
        self.writing, self.meeting = Writing(self.spans), Alone()
        self._saved: Future[None] | None = None  # the task before
        self.texts = Texts(plan, encoders, config, self.spans)
        self.pictures = Pictures(plan, encoders, config, spans=self.spans)
        self.derived = Derived(plan, encoders, draft)

    def go_by(self, plan: Plan) -> None:
        """Go on by a plan that differs in the lists alone: only pairs are left."""
        self.plan, self.derived = plan, Derived(plan, self.encoders, self.draft)

    def do(self, todo: list[Todo]) -> None:
        """Compute what is missing, a table at a time, but for what other processes and machines do meanwhile."""
        with (
            Claims(self.draft.folder) as claims,
            self.meeting.joined(claims),
            Writing(self.spans) as self.writing,
        ):
            sharing = Sharing(self, tasks.split(todo), claims)
            for name in RANGED:
                sharing.finish(name)

    def counters(self) -> str:
        """Return as a table how much each encoder has encoded, and where the shards are from; without zeros."""
        counts = {"pictures decoded": self.pictures.decoded}
        for encoder in self.encoders.by_role.values():
            counts |= {f"{what}, {encoder.name}": count for what, count in encoder.counts.items()}
        counts |= {"shards computed": self.draft.made, "shards computed by workers": self.come}
        counts |= {"shards fetched": self.draft.fetched, "shards of caches beside": self.draft.taken}
        counts |= {"shards present locally": max(0, self.draft.kept - self.come)}
        return table(("done", "count"), [(what, f"{count:,}") for what, count in counts.items() if count])

    def count(self, task: Task) -> int:
        """Return how many rows a task's range has."""
        start, stop = self.plan.borders[task.table][task.index]
        return stop - start

    def finish(self, task: Task, rows: Range) -> None:
        """Compute a task: first what it owns, which takes nothing of other ranges."""
        if task.group == TEXTS:
            self._finish_texts(rows)
        else:
            self._finish(rows)

    def _finish_texts(self, rows: Range) -> None:
        self.texts.fill(rows)
        rows.settle()
        rows.save_all()

    def _finish(self, rows: Range) -> None:
        if rows.table != PAIR:
            self.pictures.begin(rows)  # while its texts are encoded
            self.texts.fill(rows)
            self.pictures.fill(rows)
            rows.settle()
        else:
            self.writing.drain()  # whole columns are read
        self.derived.fill(rows)
        rows.save_all()

    def when_saved(self, drop: Callable[[], None]) -> None:
        """Drop the claim of a task once its shards are there, which are written while the next one is computed."""
        if self._saved is not None:
            self._saved.result()  # so that no third range is in memory
        self._saved = self.writing.do(drop)


class Sharing:
    """The tasks that this process and others finish, in order: those that are open are not known to be finished."""

    def __init__(self, work: Work, split: list[Task], claims: Claims) -> None:
        self._work, self._claims = work, claims
        self._open = {task.key: task for task in split}
        self._left: dict[Key, list[ShardPlan]] = {}  # what is missing of tasks that were looked at
        self._at: list[Key] = []  # what is being finished: a task, and those that it waits for
        self._next: dict[Key, contextlib.ExitStack] = {}  # the claim of the one after it
        self._table, self._progress = "", _ignore

    def finish(self, name: str) -> None:
        """Finish all tasks of a table: what others are at is waited for, or taken over where they have ended.

        Where nothing is left to take, work goes ahead with later tables, which their own rows do not count any more.
        """
        counts = [self._work.count(task) * len(task.parts) for task in self._of(name)]
        with Progress(sum(counts), name, "rows") as progress:
            self._table, self._progress, told, waits = name, progress.advance, False, pauses()
            while waiting := self._of(name):
                if [task for task in waiting if self._take(task)] or self._ahead():
                    waits = pauses()
                    continue
                if not told:
                    ranges = len({task.index for task in waiting})
                    say(f"{name}: waiting for {ranges:,} range{'s' * (ranges > 1)} that others are at. {DEAD}")
                told = True
                time.sleep(next(waits))

    def _of(self, name: str) -> list[Task]:
        return [task for task in self._open.values() if task.table == name]

    def _ahead(self) -> bool:
        """Finish one task of a later table, if there is one that nobody is at."""
        return any(self._take(task) for task in list(self._open.values()) if task.table != self._table)

    def _take(self, task: Task) -> bool:
        """Finish a task unless another process is at it, or at one that it derives from; return whether it is done.

        What others have finished is taken without a claim: all who wait for a task take it at once.
        """
        if task.key not in self._open:
            return True
        if task.missing and not tasks.ready(task, self._open):
            return False
        claimed = self._next.pop(task.key, None)
        with claimed or contextlib.ExitStack() as held:
            missing: list[ShardPlan] | None = self._missing(task)
            if missing and claimed is None:
                missing = self._claim(task, held)
            if missing is None:
                return False
            self._at.append(task.key)
            self._finish(task, missing)
            self._at.pop()
            self._work.when_saved(held.pop_all().close)
        del self._open[task.key]
        return True

    def _claim(self, task: Task, held: contextlib.ExitStack) -> list[ShardPlan] | None:
        """Claim a task and return what is missing of it then; None if another process or machine is at it."""
        if self._work.meeting.elsewhere(task.name) or not held.enter_context(self._claims.named(task.name)):
            return None
        if (missing := self._missing(task)) and not held.enter_context(self._work.meeting.held(task.name)):
            return None
        return missing

    def _missing(self, task: Task) -> list[ShardPlan]:
        """Return the shards of a task that are still missing; the others are adopted, each once."""
        before = self._left.get(task.key, task.missing)
        left = [shard for shard in before if not self._work.draft.adopt(shard, self._work.meeting.origin(shard))]
        self._left[task.key] = left
        if done := {shard.part.name for shard in before} - {shard.part.name for shard in left}:
            self._advance(task)(self._work.count(task) * len(done))
        return left

    def _finish(self, task: Task, missing: list[ShardPlan]) -> None:
        work = self._work
        work.clock.start()
        ready = partial(self._await, task)
        given = (work.plan, work.draft, task.table, task.index, missing, self._advance(task), work.clock, ready)
        work.finish(task, Range(*given, work.writing, partial(self._following, task)))

    def _following(self, task: Task) -> Task | None:
        """Claim the task that is taken behind one, if it is of pictures; return it with what is missing, or None.

        Not while another one waits for this one: what is claimed stands behind all that this process waits for, so that
        no two processes wait for each other.
        """
        if self._at != [task.key]:
            return None
        left = self._open.keys() - {task.key}
        for other in islice(dropwhile(lambda other: other is not task, list(self._open.values())), 1, None):
            if other.table == PAIR:
                break
            if not self._missing(other) or not tasks.ready(other, left):
                continue
            if other.group == TEXTS:
                break
            with contextlib.ExitStack() as held:
                if missing := self._claim(other, held):
                    self._next[other.key] = held.pop_all()
                    return dataclasses.replace(other, missing=tuple(missing))
        return None

    def _advance(self, task: Task) -> Callable[[int], None]:
        return self._progress if task.table == self._table else _ignore

    def _await(self, task: Task) -> None:
        """Wait for the tasks that one copies from, and finish those of them that nobody is at.

        They stand before it, and so do those that they wait for, which are taken first: somebody always goes on.
        """
        if task.key == next(iter(self._open)):  # all before it is finished
            return
        for key in tasks.copied_from(self._work.plan, task):
            needed = tasks.derived_from(self._open[key]) if key in self._open else ()
            for each in (*needed, key):
                waits, waited, told = pauses(), 0.0, False
                while each in self._open and not self._take(self._open[each]):
                    pause = next(waits)
                    waited += pause
                    if waited >= LONG and not told:
                        say(f"{task.name} waits for {self._open[each].name}, which another is at. {DEAD}")
                        told = True
                    time.sleep(pause)


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each look at what others are at: what was short is seen soon."""
    pause = SOON
    while True:
        yield pause
        pause = min(POLL, MORE * pause)


def _ignore(count: int) -> None:
    """What is done ahead of its table is not counted with it."""
