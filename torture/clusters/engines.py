"""Each engine on a real cluster of this machine, while its workers are killed, preempted, drained or canceled.

Whatever happens, the cache is that of one worker, at most as many ranges more than there are are computed as there are
workers, and no claim, temporary file, process or job is left. So it is with real commands, one of them in each turn,
and with machines that share no folder. An engine that cannot be had here is left out, and said.
"""

import contextlib
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.output import say
from torture.clusters import apart, ray_cluster, slurm_cluster
from torture.clusters.commands import NAMES, Commanded
from torture.clusters.slurm_cluster import CannotStartError, said_by
from torture.clusters.trial import Trial
from torture.clusters.watched import Worker, kill
from torture.tiny_cache import Result
from workers import slurm
from workers.engine import Engine

Trials = Iterator[tuple[str, list[str]]]  # what happened, and what was wrong then
TRIALS, WORKERS = 9, 4
OPTIONS = "time=10"
REST = 2.0  # seconds after which a requeued job has ended on its node, too
LOOK = 0.5  # seconds between two looks at the queue, which is all ours


def run(scratch: Path, cases: int, seed: int) -> Result:
    """Try the engines that can be had; all of them make TRIALS cases."""
    result = Result("clusters")
    for name, (lacking, trials) in ENGINES.items():
        reason = lacking()
        try:
            for turn in () if reason else range(math.ceil(cases / TRIALS)):
                for what, problems in trials(scratch / f"{name}-{turn}", seed + turn):
                    result.case()
                    result.count(f"{name} with {what}")
                    for problem in problems:
                        result.fail(f"{name} with {what}: {problem}")
        except CannotStartError as error:
            reason = str(error)
        except TimeoutError as error:
            result.fail(f"{name}: {error}")
        if reason:
            say(f"clusters: {name} is left out: {reason}")
            result.count(f"{name} left out")
    return result


def on_this_machine(scratch: Path, seed: int) -> Trials:
    """Kill one of four processes."""
    trial = Trial(scratch / "killed", seed, _engine(f"local:{WORKERS}"))
    with trial:
        kill(trial.workers(WORKERS)[0])
    yield "one killed", trial.problems(WORKERS)


def on_slurm(scratch: Path, seed: int) -> Trials:
    """Disturb each of four jobs, then cancel all four, then let two commands divide one cache; then a real command."""
    one = _engine(f"slurm:{WORKERS}", OPTIONS, True)
    with _looking_often(), slurm_cluster.start(scratch / "cluster", WORKERS + 1):
        trial = Trial(scratch / "disturbed", seed, one)
        with trial:
            workers = sorted(trial.workers(WORKERS), key=lambda worker: worker.place)
            _disturb(workers)
            trial.until(lambda: len(_requeued()) == 2)
            time.sleep(REST)
            trial.until(lambda: _hurry() or trial.begun >= WORKERS + 3)  # but for the one whose node is drained
        _do("scontrol", "update", f"nodename={workers[2].node}", "state=resume")
        yield "one killed, one preempted, one signaled, a node drained", [*trial.problems(WORKERS), *_jobs()]

        trial = Trial(scratch / "canceled", seed, one)
        with trial:
            trial.workers(WORKERS)
            _do("scancel", trial.workers(WORKERS)[0].job)
        yield "all canceled", [*trial.problems(WORKERS), *_jobs()]

        half = _engine("slurm:2", OPTIONS, True)
        trial = Trial(scratch / "twice", seed, half, half)
        with trial:
            trial.workers(WORKERS)
        yield "two commands at once", [*trial.problems(WORKERS), *_jobs()]

        trial = Trial(scratch / "refused", seed, _engine("slurm:2", f"{OPTIONS} partition=nowhere"))
        with trial:
            pass
        yield "a partition that there is not", [*_refused(trial.failures), *trial.left(), *_jobs()]

        real = Commanded(
            scratch / "real", (name := command(seed)), seed, ("--workers-on", "slurm:2", "--slurm", OPTIONS, "--wait")
        )
        with real:
            first, second = real.workers(2)
            kill(first)
            _preempt(second)
            real.until(lambda: len(_requeued()) == 1)
            time.sleep(REST)
            real.until(lambda: _hurry() or real.begun >= 5)  # the command, two workers, and these again
        yield f"{name}, one killed and one preempted", [*real.problems(2), *_jobs()]


def on_ray(scratch: Path, seed: int) -> Trials:
    """Kill one of three workers, and the node of another; the same with a real command."""
    with ray_cluster.start(3) as (address, kill_node):
        trial = Trial(scratch / "killed", seed, _engine(f"ray:{address}"))
        with trial:
            kill(trial.workers(3)[0])
            kill_node()
            trial.until(lambda: trial.begun >= 5)
        yield "a worker and a node killed", trial.problems(3)

    with ray_cluster.start(3) as (address, kill_node):
        real = Commanded(scratch / "real", (name := command(seed)), seed, ("--workers-on", f"ray:{address}"))
        with real:
            kill(real.workers(3)[0])
            kill_node()
            real.until(lambda: real.begun >= 6)
        yield f"{name}, a worker and a node killed", real.problems(2)


def command(seed: int) -> str:
    """Return which real command a turn tries."""
    return NAMES[seed % len(NAMES)]


ENGINES: dict[str, tuple[Callable[[], str], Callable[[Path, int], Trials]]] = {
    "local": (str, on_this_machine),
    "slurm": (slurm_cluster.lacking, on_slurm),
    "ray": (ray_cluster.lacking, on_ray),
    "remote": (str, apart.in_a_remote),
}


def _engine(workers_on: str, options: str = "", wait: bool = False) -> Engine:
    found = Engine.of(workers_on, options, wait)
    assert found is not None
    return found


@contextlib.contextmanager
def _looking_often() -> Iterator[None]:
    before, slurm.LOOK = slurm.LOOK, LOOK
    try:
        yield
    finally:
        slurm.LOOK = before


def _disturb(workers: list[Worker]) -> None:
    """Kill the first, let a job of more weight take the second's node, drain the third's, bid the fourth go."""
    first, second, third, fourth = workers
    kill(first)
    _preempt(second)
    _do("scontrol", "update", f"nodename={third.node}", "state=drain", "reason=torture")
    _do("scancel", "--signal=USR2", f"{fourth.job}_{fourth.place}")  # as before a time limit


def _refused(said: list[str]) -> list[str]:
    """Return what is wrong with what was said of jobs that Slurm refuses."""
    told = len(said) == 1 and "\n" not in said[0] and "invalid partition specified: nowhere" in said[0]
    return [] if told else [f"said of no such partition: {said}"]


def _preempt(worker: Worker) -> None:
    """Let a job of more weight take a worker's node."""
    _do("sbatch", "--partition=high", f"--nodelist={worker.node}", "--output=/dev/null", "--wrap=sleep 1")


def _requeued() -> list[str]:
    """Return the jobs that wait to begin again."""
    queued = said_by("squeue", "--noheader", "--array", "--states=PENDING", "--format=%i %r").splitlines()
    return [line.split()[0] for line in queued if line.endswith(" BeginTime")]


def _hurry() -> None:
    """Let what is requeued begin at once: Slurm waits two minutes."""
    for job in _requeued():
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)


def _jobs() -> list[str]:
    """Return what is wrong with the queue."""
    return [f"jobs left: {left}"] if (left := said_by("squeue", "--noheader", "--format=%i %T")) else []


def _do(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
