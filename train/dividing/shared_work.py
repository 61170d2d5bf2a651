"""What a worker does: take the next task that nobody has finished or is at, until none is left."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from cache.store.claims import Claims
from common.errors import BusyError, ConfigError, MelcacheError
from common.output import say
from common.paths import make_folder
from train.dividing.tasks import AREA, Task

POLL = 0.5  # seconds between two looks at what others train


def work(tasks: Sequence[Task], series: Path, *, wait: bool) -> None:
    """Train the tasks of a series but for what other workers do meanwhile; with `wait` until those are over, too.

    Those with the most epochs come first, so that none of them begins last. What a worker was at that has ended is
    taken over; then a task may be trained by two, which the run's folder takes from one. A task that fails here may
    not fail elsewhere: it is left to others, and the first such error is raised behind all other tasks.
    """
    waiting = sorted((task for task in tasks if not task.over), key=lambda task: -task.config.epochs)
    told, failed = False, dict[str, MelcacheError]()
    with Claims(series / AREA) as claims:
        while waiting:
            left = [task for task in waiting if not _take(task, claims, failed)]
            if len(left) == len(waiting):
                if not wait:
                    break
                if not told:
                    say(f"{len(left):,} trainings are under way in other processes; waiting")
                told = True
                time.sleep(POLL)
            waiting = left
    unfinished = [failed[task.name] for task in tasks if task.name in failed and not task.over]
    if unfinished:
        raise unfinished[0]


def _take(task: Task, claims: Claims, failed: dict[str, MelcacheError]) -> bool:
    """Train a task unless it is over, or another process is at it; return whether it is over, or has `failed` here."""
    if task.over:
        return True
    make_folder(task.area)
    with claims.named(task.name) as mine:
        if not mine:
            return False
        if not task.over:
            say(f"training {task.name}")
            try:
                task.train()
            except BusyError:  # a claim that lapsed, of a process that lives
                return False
            except (MelcacheError, MemoryError, torch.OutOfMemoryError) as error:
                failed[task.name] = _without_frames(error)
                say(f"{task.name} cannot be trained here: {failed[task.name]}")
    return True


def _without_frames(error: MelcacheError | MemoryError | torch.OutOfMemoryError) -> MelcacheError:
    """Return an error to be raised later; with its traceback it would keep all that the training held."""
    if isinstance(error, MelcacheError):
        return type(error)(*error.args)
    return ConfigError(f"it needs more memory than is free here: {str(error).partition(chr(10))[0]}")
