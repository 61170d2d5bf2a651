"""What runs in a job of Slurm: a worker, or at the end the one that finishes.  submitit writes it down as a pickle."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from workers.keeper import keep

SETTLE = 2.0  # seconds by which this process may hear later than its worker that both are to end
FINISHED = "finished"  # in the folder of the jobs, where workers have failed: what they said stays there
DONE = "done"  # the same, once a worker has found nothing left to do
FAILED = "failed-"  # begins the name of a file for each of these; its content is the job


@dataclass(frozen=True)
class Copy:
    """A worker's command, in a folder.  `jobs` is the folder of the jobs' logs; `last` finishes, and removes it."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    jobs: str
    last: bool = False

    def __call__(self) -> None:
        """Run the command, unless nothing is left to do.  Raises ChildProcessError where it fails: Slurm shows it."""
        done = Path(self.jobs) / DONE
        if done.exists() and not self.last:
            return
        asked: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "")
        threads = {"OMP_NUM_THREADS": cores} if cores and "OMP_NUM_THREADS" not in os.environ else {}
        status = keep(self.words, self.environment | threads, self.folder, before_again=lambda: _end(asked))
        if status and (self.last or not done.exists()):  # else it came late: others have finished meanwhile
            job = os.environ.get("SLURM_JOB_ID", "")
            (Path(self.jobs) / f"{FAILED}{job}").write_text(job)
            raise ChildProcessError(f"the worker ended with status {status}")
        if self.last:
            self._clear()
        done.touch()
        _let_go(os.environ.get("SLURM_ARRAY_JOB_ID", ""))

    def checkpoint(self) -> object:
        """Return what goes on after a preemption or a time limit: the same, since what is finished is kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _clear(self) -> None:
        """Remove the jobs' folder, where all went well, and end: submitit would write into it."""
        folder = Path(self.jobs)
        if any(path.name.startswith(FAILED) for path in folder.iterdir()):
            (folder / FINISHED).touch()
            return
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _let_go(array: str) -> None:
    """Take workers out of the queue that have not begun, or wait to begin again: nothing is left to do."""
    if array:
        with contextlib.suppress(OSError):
            subprocess.run(["scancel", "--state=PENDING", array], capture_output=True)


def _end(asked: list[int]) -> None:
    """Where this job has been bidden to end, end it: Slurm needs its node, and requeues it where it may."""
    time.sleep(SETTLE)
    if asked:
        raise SystemExit(128 + signal.SIGTERM)
