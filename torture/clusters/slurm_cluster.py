"""A real Slurm of several nodes on this machine: munged, slurmctld and a slurmd for each node, in a folder of its own.

Jobs of the partition `low` are requeued for those of `high`. Its commands find it by SLURM_CONF, which `start` sets.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
READY_SECONDS = 40.0
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


def lacking() -> str:
    """Return why no cluster can be started here, "" where one can."""
    if os.geteuid():
        return "a Slurm of several nodes is started by root alone"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed (Debian: slurm-wlm munge)" if absent else ""


@contextlib.contextmanager
def start(folder: Path, nodes: int) -> Iterator[None]:
    """Run a cluster with nodes n1, n2, ... of one CPU each in the block; its files lie in `folder`."""
    folder.mkdir(parents=True)
    for path in (folder, *folder.parents):  # munged's socket must be in reach
        if path.stat().st_mode & 0o005 != 0o005 and path.owner() == pwd.getpwuid(os.geteuid()).pw_name:
            path.chmod(path.stat().st_mode | 0o055)
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().partition(".")[0]
    port, *ports = _free_ports(nodes + 1)
    lines = [
        f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={each} CPUs=1 RealMemory=1000 State=UNKNOWN"
        for i, each in enumerate(ports, 1)
    ]
    conf = folder / "slurm.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    conf.write_text(CONF.format(host=host, user=user, folder=folder, port=port, nodes="\n".join(lines)))
    names = ("socket", "pid-file", "log-file", "seed-file")
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--{name}={folder}/munge.{name.removesuffix('-file')}" for name in names]
    commands = [munged, ["slurmctld", "-D", "-c"], *(["slurmd", "-D", "-c", "-N", f"n{i + 1}"] for i in range(nodes))]
    daemons: list[subprocess.Popen[bytes]] = []
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    try:
        for words in commands:
            with (folder / f"{words[0]}.{len(daemons)}.said").open("wb") as said:
                daemons.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said))
            if words is munged:
                _until(lambda: (folder / "munge.socket").exists(), "munged")
        _until(lambda: said_by("sinfo", "-h", "-t", "idle", "-o", "%D", "-p", "low") == str(nodes), "slurmd")
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def said_by(*words: str) -> str:
    """Return what a command of Slurm prints, "" where it fails."""
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def _until(ready, who: str) -> None:
    ends = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError(f"{who} is not ready after {READY_SECONDS:.0f} s")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
