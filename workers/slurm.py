"""`--workers-on slurm:N`: an array job of N workers through submitit, and a job behind it that finishes."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import ConfigError, WorkersError
from common.output import say
from common.paths import check_writable, exists, make_folder, names
from workers import slurm_options
from workers.engine import Engine
from workers.slurm_job import FAILED, FINISHED, Copy
from workers.work import Coming, Work, command, last_line, python_path

LOGS = ".workers-"  # begins the name of the folder, beside the results, of what jobs say
LOOK = 5.0  # seconds between two looks at the queue
TIMES = 100  # that a job may come to its time limit and go on
STEPS = 'test -z "$SLURM_CPUS_PER_TASK" || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'  # since Slurm 22.05


def check(engine: Engine, folder: Path) -> bool:
    """Return whether jobs are given GPUs.  Raises ConfigError where none can be submitted, or not for a folder."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "--workers-on slurm: sbatch was not found. Run this on a host that submits jobs to Slurm; elsewhere there "
            "are local:N and ray"
        )
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError(
            "--workers-on slurm needs submitit: make setup EXTRAS=slurm, or pip install 'melcache[slurm]'"
        )
    if "%" in str(folder.absolute()):  # which Slurm replaces in names of logs
        raise ConfigError(f"--workers-on slurm: {folder.absolute()}: Slurm takes no path with a % in it. Rename it")
    return slurm_options.give_gpus(engine.options)


def run(engine: Engine, work: Work) -> bool:
    """Submit the workers and the job that finishes; return whether that has ended, which only --wait waits for.

    Raises ConfigError where Slurm or submitit is missing or refuses the jobs, WorkersError where they do not finish.
    """
    parent = work.folder.absolute().parent
    make_folder(parent)
    check_writable(parent)
    cluster = _cluster()
    _sweep(parent, work.folder.name, cluster)
    folder = Path(tempfile.mkdtemp(prefix=f"{LOGS}{work.folder.name}{cluster}-", dir=parent))
    jobs: list[str] = []
    try:
        workers = [Copy(*_told(work, work.words), str(folder))] * engine.count
        for copies in (workers, [Copy(*_told(work, work.finish), str(folder), last=True)]):
            jobs.append(_submit(engine, work, folder, copies, behind=jobs))
    except BaseException:
        if jobs:
            subprocess.run(["scancel", *jobs], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    array, last = jobs
    work.alone.set()
    say(
        f"submitted {engine.count} workers as job {array}, and job {last}, which finishes behind them. "
        f"Watch: squeue --jobs {array},{last}; what they say: {folder}. End: scancel {array} {last}"
    )
    if engine.wait:
        try:
            _wait((array, last), work)
        except KeyboardInterrupt:
            say(f"the jobs go on. Watch: squeue --jobs {array},{last}. End: scancel {array} {last}")
            raise
        work.alone.clear()
        _check(folder, last)
    return engine.wait


def _told(work: Work, words: tuple[str, ...]) -> tuple[list[str], dict[str, str], str]:
    return command(work.module, words), {"PYTHONPATH": python_path()}, os.getcwd()


def _submit(engine: Engine, work: Work, folder: Path, copies: Sequence[Copy], behind: Sequence[str]) -> str:
    """Submit copies as one job, an array where they are several, to begin `behind` others; return its number."""
    import submitit

    options: dict[str, Any] = {key: value or True for key, value in engine.options}
    limit = str(options.get("time", slurm_options.TIME))
    options |= {"time": limit, "requeue": True, "job_name": options.pop("job-name", f"melcache-{work.folder.name}")}
    if behind:
        options["dependency"] = f"afterany:{':'.join(behind)}"
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=TIMES)
    executor.update_parameters(
        time=slurm_options.minutes(limit),
        setup=[f"export PYTHONPATH={shlex.quote(python_path())}", STEPS],
        array_parallelism=len(copies),
        wckey=None,
        stderr_to_stdout=True,
        additional_parameters=options,
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            jobs = executor.submit_array(copies)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        said = "; ".join(line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines() if line)
        raise ConfigError(
            f"Slurm refuses the job: {said}. Its options are those of --slurm; sinfo says whether Slurm is there"
        ) from None
    return str(jobs[0].job_id).partition("_")[0]


def _wait(jobs: tuple[str, str], work: Work) -> None:
    """Wait until the queue has none of the jobs, and show how much has come of what there is to do."""
    told = ""
    with Coming(work, "Slurm") as coming:
        while (states := _queued(jobs)) is None or states:
            coming.look()
            note = ", ".join(f"{count} {state.lower()}" for state, count in sorted((states or {}).items()))
            if note and note != told:
                coming.note(f"jobs: {note}")
                told = note
            time.sleep(LOOK)


def _queued(jobs: tuple[str, ...]) -> Counter[str] | None:
    """Return how many jobs the queue has in each state; None where it does not answer."""
    words = ["squeue", "--noheader", "--array", f"--jobs={','.join(jobs)}", "--format=%T"]
    asked = subprocess.run(words, capture_output=True, text=True)
    if asked.returncode and "Invalid job id" not in asked.stderr:  # else all have been forgotten
        return None
    return Counter(asked.stdout.split())


def _check(folder: Path, last: str) -> None:
    """Raise WorkersError where the last job has not finished; tell of workers that failed, and leave what they said."""
    there = [name for name in names(folder) if not name.startswith(".nfs")]
    log = folder / f"{last}_0_log.out"
    if there and FINISHED not in there:
        said = last_line(log) if exists(log) else "it has said nothing; do its nodes share this folder?"
        raise WorkersError(f"job {last} has not finished: {said}. Logs: {folder}. The same command continues")
    if failed := [name.removeprefix(FAILED) for name in there if name.startswith(FAILED)]:
        say(f"warning: {len(failed)} workers have failed, the first in job {failed[0]}; what they said is in {folder}")


def _cluster() -> str:
    """Return the end of what names folders by this cluster, whose queue alone knows its jobs; "" where it has no name.

    scontrol goes by SLURM_CLUSTERS, as sbatch and squeue do.
    """
    if shutil.which("scontrol") is None:
        return ""
    asked = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    found = re.search(r"^ClusterName\s*=\s*(\S+)\s*$", asked.stdout, re.MULTILINE)
    return f"@{re.sub(r'[^A-Za-z0-9_.]', '_', found[1])}" if found and not asked.returncode else ""


def _sweep(parent: Path, name: str, cluster: str) -> None:
    """Remove what this user's jobs of earlier commands said, where their cluster's queue has none of them any more.

    Two clusters may share a file system: each gives its jobs numbers of its own.
    """
    jobs: dict[Path, set[str]] = {}  # before the queue is asked: another command may submit some meanwhile
    begins = f"{LOGS}{name}{cluster}"
    for folder in (parent / found for found in names(parent) if cluster and found.rpartition("-")[0] == begins):
        with contextlib.suppress(OSError):  # removed meanwhile
            if folder.lstat().st_uid == os.getuid():  # a colleague's says nothing to others
                jobs[folder] = {found[1] for file in names(folder) if (found := re.match(r"([0-9]+)_", file))}
    if not any(jobs.values()):
        return
    words = ["squeue", "--all", "--noheader", "--array", "--format=%F %A"]  # hidden partitions, too
    asked = subprocess.run(words, capture_output=True, text=True)
    for folder, known in jobs.items():
        if not asked.returncode and known.isdisjoint(asked.stdout.split()) and known:  # else it is being submitted
            shutil.rmtree(folder, ignore_errors=True)
