"""What one process claims at a time: of a range of rows the parts that are made together, and which others it needs.

All that is made of pictures feeds on one decode of each, and a part may need what that makes; texts that the text
encoder alone reads need neither. So a range of entities or of mentions is two tasks, one of pairs is one.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cache.kinds import KINDS
from cache.names import PartName
from cache.writing.writer import ShardPlan, Todo
from extract.planning.shards import RANGED, Plan, missing

PAIR = RANGED[-1]
TEXTS, REST = "texts", "rest"
Key = tuple[str, int, str]


@dataclass(frozen=True)
class Task:
    """The missing shards of a range that are of one group of parts: those of the text encoder, or the rest."""

    table: str
    index: int
    group: str
    missing: tuple[ShardPlan, ...]

    @property
    def key(self) -> Key:
        """What tells a task from others."""
        return self.table, self.index, self.group

    @property
    def claim(self) -> str:
        """What its claim names beside the index."""
        return self.table if self.table == PAIR else f"{self.table}.{self.group}"

    @property
    def name(self) -> str:
        """What its claim is called."""
        return f"{self.claim}-{self.index:05d}"

    @cached_property
    def parts(self) -> set[PartName]:
        """The parts of which a shard is missing."""
        return {shard.part.name for shard in self.missing}


def split(todo: Iterable[Todo]) -> list[Task]:
    """Return the tasks of ranges in an order in which each stands behind those that it needs.

    Of each table first those with pictures, which take longest. A range has a task of its rest even where nothing is
    missing: what is known of its pictures is learned with it.
    """
    rest, texts = [], []
    for item in todo:
        mine = tuple(shard for shard in item.missing if group_of(shard.part.name) == TEXTS)
        others = tuple(shard for shard in item.missing if group_of(shard.part.name) == REST)
        rest.append(Task(item.table, item.index, REST, others))
        if mine:
            texts.append(Task(item.table, item.index, TEXTS, mine))
    derived = {task.table for task in rest if any(group_of(name) == TEXTS for name in _inputs(task))}

    def order(task: Task) -> tuple[int, bool, int]:
        return RANGED.index(task.table), (task.group == TEXTS) is (task.table not in derived), task.index

    return sorted([*rest, *texts], key=order)


def groups(plan: Plan, tables: Sequence[str]) -> dict[str, tuple[ShardPlan, ...]]:
    """Return by name all shards of the tasks of these tables, be they missing or not."""
    return {task.name: task.missing for task in split(missing(plan, lambda shard: False, tables)) if task.missing}


def group_of(part: PartName) -> str:
    """Return the group of a part."""
    return TEXTS if KINDS[part].role == "text" else REST


def ready(task: Task, unfinished: Collection[Key]) -> bool:
    """Return whether all is there that the parts of a task derive from.

    `unfinished` tasks stand in the order of `split`: pairs derive from all entities, and from their own mentions.
    """
    if task.table == PAIR:
        mine = {("mention", task.index, group) for group in (TEXTS, REST)}
        return next(iter(unfinished))[0] != RANGED[0] and mine.isdisjoint(unfinished)
    return derived_from(task).isdisjoint(unfinished)


def derived_from(task: Task) -> set[Key]:
    """Return the other tasks of a range of entities or mentions that the parts of one derive from."""
    return {(task.table, task.index, group_of(name)) for name in _inputs(task)} - {task.key}


def copied_from(plan: Plan, task: Task) -> list[Key]:
    """Return the other tasks that must be finished before one is: those of the rows that own what it only copies."""
    begin, end = plan.borders[task.table][task.index] if task.table != PAIR else (0, 0)
    found: set[Key] = set()
    for part in task.parts:
        for owning in plan.owners.asked(part, begin, end) if part.table == task.table != PAIR else ():
            for table, rows in (("entity", owning.rows[owning.of_entity]), ("mention", owning.rows[~owning.of_entity])):
                stops = [stop for _, stop in plan.borders[table]]
                places = np.unique(np.searchsorted(stops, rows[rows >= 0], "right")).tolist()
                found |= {(table, place, task.group) for place in places}
    return sorted(found - {task.key})


def _inputs(task: Task) -> Iterator[PartName]:
    return (PartName(name) for part in task.parts for name in KINDS[part].inputs)
