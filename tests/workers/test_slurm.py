"""Jobs of Slurm: submitted, watched, ended; its commands are scripts here.  Real ones: torture/clusters/."""

import os
import re
import time

import pytest

from common.errors import ConfigError, WorkersError
from torture.processes import child
from workers import launch, slurm, slurm_job
from workers.engine import Engine
from workers.slurm_job import DONE, FAILED, FINISHED, Copy
from workers.work import Work

OTHERS = {  # what each command does; "$STATE" is a folder
    "sbatch": 'n=$(ls "$STATE" | grep -c script); cp "$1" "$STATE/script$n"; echo "Submitted batch job $((n + 41))"',
    "srun": ":",
    "scontrol": ":",
    "squeue": ":",
    "scancel": 'echo "$@" >> "$STATE/canceled"',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function that lets commands of Slurm do other things; it returns the folder with what was submitted."""
    programs, state = tmp_path / "programs", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.setattr(slurm, "LOOK", 0.01)

    def doing(**commands):
        for name, text in (OTHERS | commands).items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        return state

    return doing


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit")


def work(tmp_path, come=lambda: 0):
    folder = tmp_path / "shards/world"
    return Work("extract", ("--by-plan", "d"), ("--push",), folder, "shards", 3, come)


def logs(tmp_path):
    return sorted((tmp_path / "shards").glob(".workers-world[@-]*"))


def test_without_slurm_or_submitit_a_line_says_what_to_do(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"sbatch was not found. Run this on a host that submits jobs"):
        launch.check(Engine("slurm", 2), tmp_path)
    cluster()
    monkeypatch.undo()
    cluster()
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs submitit: make setup EXTRAS=slurm"):
        launch.check(Engine("slurm", 2), tmp_path)


def test_an_array_of_workers_and_a_job_behind_it_are_submitted(submitit, cluster, tmp_path, capsys):
    state = cluster()
    options = (("partition", "gpu"), ("time", "1-0"), ("gres", "gpu:a100:1"), ("exclusive", ""))
    assert slurm.run(Engine("slurm", 4, options=options), work(tmp_path)) is False
    array, last = ((state / f"script{place}").read_text() for place in (0, 1))
    for script in (array, last):
        given = set(re.findall(r"#SBATCH --(.*)", script))
        assert {"partition=gpu", "time=1-0", "gres=gpu:a100:1", "exclusive", "requeue", "signal=USR2@90"} <= given
        assert "job-name=melcache-world" in given and "open-mode=append" in given
    assert "#SBATCH --array=0-3%4\n" in array and "--dependency" not in array
    assert "#SBATCH --dependency=afterany:41\n" in last and "--array" not in last
    said = capsys.readouterr().err
    assert (
        "4 workers as job 41, and job 42" in said and "Watch: squeue --jobs 41,42" in said and "scancel 41 42" in said
    )
    copies = [submitit.core.utils.DelayedSubmission.load(path) for path in sorted(logs(tmp_path)[0].glob("*.pkl"))]
    assert [copy.function.words[1:] for copy in copies] == [["-m", "extract", "--by-plan", "d"]] * 4 + [
        ["-m", "extract", "--push"]
    ]
    assert [copy.function.last for copy in copies] == [False] * 4 + [True]
    assert {copy.function.folder for copy in copies} == {os.getcwd()}


def test_what_sbatch_says_is_one_line_and_nothing_stays(submitit, cluster, tmp_path, capfd):
    refusal = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed"
    cluster(sbatch=f"printf '{refusal}' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"Slurm refuses the job: invalid partition specified: x; Batch job") as error:
        slurm.run(Engine("slurm", 2), work(tmp_path))
    assert "\n" not in str(error.value) and capfd.readouterr().err == "" and logs(tmp_path) == []


def test_workers_without_a_last_job_are_canceled(submitit, cluster, tmp_path):
    state = cluster(sbatch=f'test -e "$STATE/script0" && {{ echo "no more jobs" >&2; exit 1; }}; {OTHERS["sbatch"]}')
    with pytest.raises(ConfigError, match="Slurm refuses the job: no more jobs"):
        slurm.run(Engine("slurm", 2), work(tmp_path))
    assert (state / "canceled").read_text() == "41\n" and logs(tmp_path) == []


def test_a_folder_whose_name_slurm_would_change_is_refused_before_anything_is_planned(submitit, cluster, tmp_path):
    cluster()
    launch.check(Engine("slurm", 2), tmp_path / "shards/world")
    with pytest.raises(ConfigError, match="100%/world: Slurm takes no path with a % in it"):
        launch.check(Engine("slurm", 2), tmp_path / "100%/world")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", False),
        ("gpus=1", True),
        ("gpus=a100:2", True),
        ("gpus=0", False),
        ("gpus-per-node=1", True),
        ("gpus-per-task=h100:1", True),
        ("gres=gpu", True),
        ("gres=craynetwork:1,gpu:a100:4", True),
        ("gres=gpu:0", False),
        ("gres=gpumem:4", False),
        ("tres-per-task=cpu=4,gres/gpu=1", True),
        ("tres-per-node=gres:gpu:1", True),
        ("cpus-per-gpu=4 partition=gpu", False),
    ],
)
def test_whether_jobs_are_given_gpus_is_seen_in_their_options(submitit, cluster, tmp_path, options, expected):
    cluster()
    assert launch.check(Engine.of("slurm:2", options), tmp_path) is expected


def test_workers_outlive_an_interrupt_once_they_are_submitted_and_not_before(submitit, cluster, tmp_path, monkeypatch):
    def interrupted(*given, **more):
        raise KeyboardInterrupt

    cluster(squeue="echo RUNNING")
    for name, outlived in (("_submit", False), ("_queued", True)):
        task = work(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(slurm, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                slurm.run(Engine("slurm", 2, wait=True), task)
        assert task.alone.is_set() is outlived
    task = work(tmp_path)
    assert slurm.run(Engine("slurm", 2), task) is False and task.alone.is_set()


def test_workers_that_have_ended_need_no_plan(submitit, cluster, tmp_path):
    cluster(squeue=QUEUE.format(end=f"touch {tmp_path}/shards/.workers-*/x"))
    task = work(tmp_path)
    with pytest.raises(WorkersError):
        slurm.run(Engine("slurm", 2, wait=True), task)
    assert not task.alone.is_set()


# two looks at a busy queue, one at which it does not answer, and then it has forgotten the jobs
QUEUE = """n=$(cat "$STATE/looks" 2>/dev/null || echo 0); echo $((n + 1)) > "$STATE/looks"
case "$*$n" in
*0|*1) printf 'RUNNING\\nRUNNING\\nPENDING\\n';;
*2) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1;;
*) echo "slurm_load_jobs error: Invalid job id specified" >&2; {end}; exit 1;;
esac"""


def waited(cluster, tmp_path, end):
    state = cluster(squeue=QUEUE.format(end=end))
    assert slurm.run(Engine("slurm", 2, wait=True), work(tmp_path, lambda: 3)) is True
    return int((state / "looks").read_text())


def test_wait_ends_when_the_queue_is_empty_and_all_is_finished(submitit, cluster, tmp_path):
    assert waited(cluster, tmp_path, f"rm -r {tmp_path}/shards/.workers-*") == 4


def test_workers_that_failed_are_told_although_all_is_finished(submitit, cluster, tmp_path, capsys):
    there = f"{tmp_path}/shards/.workers-*"
    waited(cluster, tmp_path, f"cd {there}; touch {FINISHED} {FAILED}77")
    assert "1 workers have failed, the first in job 77; what they said is in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("log", "said"), [("first\nout of memory\n", "out of memory"), (None, "it has said nothing; do its nodes share")]
)
def test_what_is_not_finished_is_an_error_with_the_last_line(submitit, cluster, tmp_path, log, said):
    write = "" if log is None else f"cd {tmp_path}/shards/.workers-*; printf '{log}' > 42_0_log.out"
    with pytest.raises(WorkersError, match=f"job 42 has not finished: {said}.*The same command continues"):
        waited(cluster, tmp_path, write or ":")


def test_an_interrupt_leaves_the_jobs_and_says_how_to_end_them(submitit, cluster, tmp_path, monkeypatch, capsys):
    cluster(squeue="echo RUNNING")

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", lambda seconds: interrupted(seconds) if seconds == slurm.LOOK else None)
    with pytest.raises(KeyboardInterrupt):
        slurm.run(Engine("slurm", 2, wait=True), work(tmp_path))
    assert "the jobs go on. Watch: squeue --jobs 41,42. End: scancel 41 42" in capsys.readouterr().err
    assert len(logs(tmp_path)) == 1


def said_earlier(tmp_path, jobs):
    """Make folders of what jobs said, by the ends of their names, with a file each."""
    for end, file in jobs.items():
        folder = tmp_path / f"shards/.workers-{end}"
        folder.mkdir(parents=True)
        if file:
            (folder / file).touch()
    return tmp_path / "shards"


def said(tmp_path):
    return {path.name.removeprefix(".workers-") for path in (tmp_path / "shards").glob(".workers-*")}


def test_what_earlier_jobs_said_goes_once_the_queue_has_none_of_them(cluster, tmp_path):
    jobs = {"world@here-old": "7_0_log.out", "world@here-queued": "8_1_submitted.pkl", "world@here-new": ""}
    shards = said_earlier(tmp_path, jobs)
    cluster(squeue="exit 1")
    slurm._sweep(shards, "world", "@here")
    assert said(tmp_path) == jobs.keys(), "nobody knows what the queue has"
    cluster(squeue='test "$1" = --all && echo 8 12')
    slurm._sweep(shards, "world", "@here")
    assert said(tmp_path) == {"world@here-new", "world@here-queued"}


def test_jobs_of_another_cluster_or_cache_or_user_are_not_asked_of_this_queue(cluster, tmp_path, monkeypatch):
    jobs = {"world@there-old": "7_0_log.out", "world-old": "6_0_log.out", "world-2@here-old": "5_0_log.out"}
    shards = said_earlier(tmp_path, jobs)
    cluster()
    for name in ("@here", ""):  # "": the cluster has no name
        slurm._sweep(shards, "world", name)
    assert said(tmp_path) == jobs.keys()
    slurm._sweep(shards, "world-2", "@here")
    monkeypatch.setattr(os, "getuid", lambda: -1)
    slurm._sweep(shards, "world", "@there")
    assert said(tmp_path) == jobs.keys() - {"world-2@here-old"}


def test_what_another_command_submits_meanwhile_stays(cluster, tmp_path):
    shards = said_earlier(tmp_path, {"world@here-new": "", "world@here-old": "7_0_log.out"})
    cluster(squeue=f"touch {shards}/.workers-world@here-new/9_0_submitted.pkl")  # after the queue has answered
    slurm._sweep(shards, "world", "@here")
    assert said(tmp_path) == {"world@here-new"}


def test_folders_bear_the_name_of_the_cluster_where_it_has_one(submitit, cluster, tmp_path, monkeypatch):
    config = r"printf 'Configuration data\nClusterName             = a-b\nSlurmctldHost[0]        = x(y)\n'"
    for answer, begin in ((config, "world@a_b-"), ("echo slurm_load_ctl_conf error; exit 1", "world-")):
        cluster(scontrol=answer)
        before = said(tmp_path)
        slurm.run(Engine("slurm", 1), work(tmp_path))
        (new,) = said(tmp_path) - before
        assert new.startswith(begin)
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm._cluster() == ""


def job(tmp_path, script, last=False, **environment):
    """Run what a job runs in a process of its own; return its exit status and the folder of jobs."""
    jobs = tmp_path / "jobs"
    jobs.mkdir(exist_ok=True)

    def run():
        os.environ.pop("OMP_NUM_THREADS", None)
        os.environ.update(environment)
        Copy(["/bin/sh", "-c", script], {"GIVEN": "x"}, str(tmp_path), str(jobs), last)()

    with open(os.devnull, "wb") as nothing:
        saved = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        _, status = os.waitpid(child(run), 0)
        os.dup2(saved, 2)
        os.close(saved)
    return os.waitstatus_to_exitcode(status), jobs


def test_a_worker_that_has_nothing_left_to_do_lets_the_others_go(cluster, tmp_path):
    state = cluster()
    script = 'test "$OMP_NUM_THREADS$GIVEN" = 6x'
    status, jobs = job(tmp_path, script, SLURM_ARRAY_JOB_ID="41", SLURM_CPUS_PER_TASK="6")
    assert status == 0 and (state / "canceled").read_text() == "--state=PENDING 41\n"
    assert [path.name for path in jobs.iterdir()] == [DONE]
    assert job(tmp_path, "touch begun; exit 1")[0] == 0 and not (tmp_path / "begun").exists(), "it came late"


def test_a_worker_that_fails_is_noted_and_the_last_job_keeps_what_it_said(cluster, tmp_path):
    cluster()
    status, jobs = job(tmp_path, "exit 2", SLURM_JOB_ID="43")
    assert status == 1 and [path.name for path in jobs.iterdir()] == [f"{FAILED}43"]
    status, jobs = job(tmp_path, "exit 0", last=True)
    assert status == 0 and {path.name for path in jobs.iterdir()} == {f"{FAILED}43", FINISHED, DONE}


def test_the_last_job_removes_what_all_said_where_all_went_well(cluster, tmp_path):
    cluster()
    job(tmp_path, "exit 0")
    status, jobs = job(tmp_path, "exit 0", last=True)
    assert status == 0 and not jobs.exists()
    status, jobs = job(tmp_path, "exit 2", last=True)
    assert status == 1 and jobs.exists()


@pytest.mark.parametrize("later", ["", "sleep 0.2;"])
def test_a_job_that_is_bidden_to_end_does_not_begin_again(cluster, tmp_path, monkeypatch, later):
    """Slurm tells all processes of a job; the worker may be gone before this one has heard."""
    cluster()
    monkeypatch.setattr(slurm_job, "SETTLE", 0.5)
    status, _ = job(tmp_path, f"echo >> begun; ({later} kill -TERM $PPID) & {'' if later else 'wait;'} kill -TERM $$")
    assert status == 1 and (tmp_path / "begun").read_text() == "\n"
