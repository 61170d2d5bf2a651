"""--workers-on, --slurm and --wait as they are written: what they mean, and what is refused."""

import os

import pytest

from common.errors import ConfigError
from workers.engine import Engine
from workers.slurm_options import minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("local:4", Engine("local", 4)),
        ("slurm:999", Engine("slurm", 999)),
        ("ray", Engine("ray", 0)),
        ("ray:4", Engine("ray", 4)),
        ("ray:head-node:6379", Engine("ray", 0, "head-node:6379")),
        ("ray:ray://10.0.0.1:10001", Engine("ray", 0, "ray://10.0.0.1:10001")),
        ("ray:[fe80::1]:6379", Engine("ray", 0, "[fe80::1]:6379")),
    ],
)
def test_an_engine_is_named(text, expected):
    assert Engine.of(text) == expected


BAD = "local local: local:0 local:-1 local:4x local:1000 slurm slurm:0 slurm:a ray:0 ray: ray:a,b dask:4 4 LOCAL:4"


@pytest.mark.parametrize("text", [*BAD.split(), "ray:a b", "local:4\n", ""])
def test_what_names_no_engine_is_refused_with_what_is_expected(text):
    with pytest.raises(ConfigError, match=r"(?s)--workers-on .*: expected local:N, slurm:N, ray, ray:N or ray:ADDRESS"):
        Engine.of(text)


@pytest.mark.parametrize("text", [None, "local:4", "ray"])
def test_options_of_jobs_need_slurm(text):
    with pytest.raises(ConfigError, match=r"--slurm is for jobs of Slurm: add --workers-on slurm:N"):
        Engine.of(text, "partition=gpu")
    with pytest.raises(ConfigError, match=r"--wait is for jobs of Slurm"):
        Engine.of(text, wait=True)


def test_options_are_words_or_lines_of_a_file(tmp_path):
    expected = (("partition", "gpu,long"), ("time", "1-12"), ("exclusive", ""), ("comment", "two words"))
    words = "partition=gpu,long --time=1-12 exclusive comment='two words'"
    assert Engine.of("slurm:2", words, True) == Engine("slurm", 2, options=expected, wait=True)
    (tmp_path / "job.txt").write_text("# of our cluster\n" + "\n".join(words.split(" ", 3)))
    assert Engine.of("slurm:2", f"@{tmp_path}/job.txt").options == expected
    assert Engine.of("slurm:2", "cpus_per_task=8").options == (("cpus-per-task", "8"),)


def test_a_file_of_options_is_short(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"a" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    told = {"weights.bin": "more than 65,536 bytes", "pipe": "no regular file"}
    for name, said in told.items():
        with pytest.raises(ConfigError, match=said):
            Engine.of("slurm:2", f"@{tmp_path}/{name}")
    with pytest.raises(ConfigError, match="no such home directory"):
        Engine.of("slurm:2", "@~nobody-here/job.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("array=0-3", "array is set by melcache"),
        ("clusters=b", "clusters is for sbatch alone. Set SLURM_CLUSTERS"),
        ("--dependency=after:1", "dependency is set by melcache"),
        ("time=40 time=50", "time is given twice"),
        ("time=soon", "time=soon: expected minutes, hours:minutes:seconds or days-hours"),
        ("time=4", "time=4: a job needs 5 minutes at least"),
        ("time=1:2:3:4", "time=1:2:3:4: expected"),
        ("partition=", "'partition=' is no option of sbatch. Expected key=value"),
        ("-p=gpu", "'-p=gpu' is no option"),
        ("comment='a\nrm x'", "is no option"),
        ("comment='a", "No closing quotation"),
        ("@absent.txt", "absent.txt: cannot be read: No such file or directory"),
        ("@.", "cannot be read: no regular file"),
        ("@/dev/zero", "cannot be read: no regular file"),
    ],
)
def test_what_is_no_option_of_a_job_is_refused(text, said):
    with pytest.raises(ConfigError, match="--slurm") as refused:
        Engine.of("slurm:2", text)
    assert said in str(refused.value) and "\n" not in refused.value.text.replace("a\nrm", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90:30", 90), ("4:00:00", 240), ("1-12", 2160), ("2-0:30", 2910), ("0-1:2:59", 62), ("0:20", 1)],
)
def test_times_are_read_as_sbatch_does(text, expected):
    assert minutes(text) == expected
