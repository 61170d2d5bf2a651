"""A real Slurm of several nodes on this machine: munged, slurmctld and a slurmd for each node, in a folder of its own.

Jobs of the partition `low` are requeued for those of `high`. Its commands find it by SLURM_CONF, which `start` sets.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from workers.work import last_line

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
READY_SECONDS, ENDING_SECONDS = 60.0, 10.0
CONF = """ClusterName=torture
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,preempt_youngest_first
SchedulerType=sched/backfill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=2
MinJobAge=300
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=120 State=UP
PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=120 State=UP
"""


class CannotStartError(Exception):
    """The daemons are installed and do not begin to work on this machine."""


def lacking() -> str:
    """Return why no cluster can be started here, "" where one can."""
    if os.geteuid():
        return "a Slurm of several nodes is started by root alone"
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed (make setup EXTRAS=slurm)"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed (Debian: slurm-wlm munge)" if absent else ""


@contextlib.contextmanager
def start(folder: Path, nodes: int) -> Iterator[None]:
    """Run a cluster with nodes n1, n2, ... of one CPU each in the block; its files lie in `folder`.

    Raises CannotStartError where its daemons do not begin to work.
    """
    for path in (folder, folder / "state"):
        path.mkdir(parents=True)
    conf, key = folder / "slurm.conf", folder / "munge.key"
    conf.write_text(_conf(folder, nodes))
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    slurmd = [["slurmd", "-D", "-N", f"n{place + 1}"] for place in range(nodes)]
    with _environment(SLURM_CONF=str(conf)), _daemons(folder) as begin:
        begin(munged)
        _until(folder, lambda: (folder / "munge.socket").exists())
        for words in (["slurmctld", "-D"], *slurmd):
            begin(words)
        _until(folder, lambda: said_by("sinfo", "-h", "-t", "idle", "-o", "%D", "-p", "low") == str(nodes))
        yield


def _conf(folder: Path, nodes: int) -> str:
    host, user = socket.gethostname().partition(".")[0], pwd.getpwuid(os.geteuid()).pw_name
    port, *ports = _free_ports(nodes + 1)
    lines = [
        f"NodeName=n{place} NodeHostname={host} NodeAddr=127.0.0.1 Port={each} CPUs=1 RealMemory=1000 State=UNKNOWN"
        for place, each in enumerate(ports, 1)
    ]
    return CONF.format(host=host, user=user, folder=folder, port=port, nodes="\n".join(lines))


@contextlib.contextmanager
def _environment(**given: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _daemons(folder: Path) -> Iterator[Callable[[list[str]], None]]:
    """Yield what starts a daemon, whose words go to a file; all end with the block."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(words: list[str]) -> None:
        with (folder / f"{words[0]}.{len(started)}.said").open("wb") as said:
            started.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said))

    try:
        yield begin
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            try:
                daemon.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def said_by(*words: str) -> str:
    """Return what a command of Slurm prints, "" where it fails."""
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def _until(folder: Path, ready: Callable[[], bool]) -> None:
    ends = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > ends:
            said = [last_line(path) for path in sorted(folder.glob("*.said"))]
            raise CannotStartError(f"Slurm is not ready after {READY_SECONDS:.0f} s: {'; '.join(filter(None, said))}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
