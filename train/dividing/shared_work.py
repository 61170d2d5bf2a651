"""What a worker does: take the next task that nobody has finished or is at, until none is left."""

import time
from collections.abc import Sequence
from pathlib import Path

from cache.store.claims import Claims
from common.errors import BusyError
from common.output import say
from train.dividing.tasks import AREA, Task

POLL = 0.5  # seconds between two looks at what others train


def work(tasks: Sequence[Task], series: Path, *, wait: bool) -> None:
    """Train the tasks of a series but for what other workers do meanwhile; with `wait` until those are over, too.

    Those with the most epochs come first, so that none of them begins last. What a worker was at that has ended is
    taken over; then a task may be trained by two, which the run's folder takes from one.
    """
    waiting = sorted((task for task in tasks if not task.over), key=lambda task: -task.config.epochs)
    told = False
    with Claims(series / AREA) as claims:
        while waiting:
            left = [task for task in waiting if not _take(task, claims)]
            if len(left) == len(waiting):
                if not wait:
                    return
                if not told:
                    say(f"{len(left):,} trainings are under way in other processes; waiting")
                told = True
                time.sleep(POLL)
            waiting = left


def _take(task: Task, claims: Claims) -> bool:
    """Train a task unless it is over, or another process is at it; return whether it is over."""
    if task.over:
        return True
    task.area.mkdir(parents=True, exist_ok=True)
    with claims.named(task.name) as mine:
        if not mine:
            return False
        if not task.over:
            say(f"training {task.name}")
            try:
                task.train()
            except BusyError:  # a claim that lapsed, of a process that lives
                return False
    return True
