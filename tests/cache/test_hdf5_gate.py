"""The look at a stranger's HDF5 files: in a child that may die, against what the manifest says, before all else."""

import os
import resource
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cache import manifests
from cache.checks import hdf5_gate
from cache.checks.verify import verify
from cache.sharing import tar
from cache.sharing.pull import pull
from common.errors import CacheError
from torture.processes import apart
from torture.strangers.hostile_files import TRICKS, disguise, honestly
from torture.tiny_cache import build


def looked_at(folder, *files):
    """What the gate says of files that are to be like the manifest's first shard."""
    content = manifests.load(folder)
    return [
        found for _, found in hdf5_gate.problems(folder, content, [replace(content.shards[0], file=f) for f in files])
    ]


@pytest.fixture
def disguised(tmp_path):
    return disguise(tmp_path / "honest", honestly, tmp_path / "secret")


def test_what_melcache_writes_is_let_pass(tmp_path):
    build(tmp_path / "world", 1)
    content = manifests.load(tmp_path / "world")
    assert {found for _, found in hdf5_gate.problems(tmp_path / "world", content, content.shards)} == {""}


def test_the_gate_works_under_limits_that_it_may_not_raise(disguised, tmp_path):
    (good,) = (path.name for path in disguised.glob("*.h5"))

    def limited():
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        return looked_at(disguised, good)

    assert apart(limited, tmp_path).answer == [""]


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("_external_storage", "sentence is not stored plainly in the file"),
        ("_external_link", "sentence is not in it, or is a link to elsewhere"),
        ("_moved_sign_bit", "sentence has a type of its own, <f2 by size alone"),
        ("_bomb", "sentence is not stored plainly in the file"),
        ("_attributes", "sentence has a named type or attributes"),
        ("_more_objects", "it holds attributes, or other objects than its columns"),
        ("_other_shape", r"sentence has shape \(4, 4\), the manifest says \(3, 4\)"),
        ("_big_endian", "sentence has type >f2, the manifest says <f2"),
        ("_user_block", "it has a user block"),
        ("_never_allocated", "sentence is not at the offset that the manifest says"),
    ],
)
def test_pull_and_verify_say_what_is_strange_about_a_file(tmp_path, trick, reason):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    there = disguise(tmp_path / "there", TRICKS[trick.removeprefix("_")], secret)
    (finding,) = verify(there)
    with pytest.raises(CacheError, match=rf"is not what melcache writes: {reason}.*ask whoever gave it to you"):
        pull(tmp_path / "here", str(there))
    assert not (tmp_path / "here" / manifests.NAME).exists()
    assert finding.problem.startswith("has the listed bytes, but is not what") and "with HDF5 tools" in finding.problem


def test_a_file_that_keeps_libhdf5_busy_costs_seconds_of_a_processor(disguised, monkeypatch, tmp_path):
    busy = (
        Path(hdf5_gate.__file__)
        .read_text()
        .replace("file = h5py.h5f.open", "while path.name == 'busy': pass\n        file = h5py.h5f.open")
        .replace("SECONDS_EACH = 300, 2", "SECONDS_EACH = 300, 1")
    )
    (tmp_path / "gate.py").write_text(busy)
    monkeypatch.setattr(hdf5_gate, "__file__", str(tmp_path / "gate.py"))
    (good,) = (path.name for path in disguised.glob("*.h5"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert looked_at(disguised, good, "busy", good) == ["", hdf5_gate.DIED, ""]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10  # for ever, else


def test_a_file_that_kills_the_child_is_named_and_the_others_are_still_looked_at(disguised, monkeypatch):
    (good,) = (path.name for path in disguised.glob("*.h5"))
    os.mkfifo(disguised / "pipe")  # opening it blocks for ever, as a file could that libhdf5 has a bug for
    real = subprocess.run

    def run(command, *, input, timeout, **more):
        if b"pipe" not in input:
            return real(command, input=input, timeout=timeout, **more)
        with subprocess.Popen(command, stdin=subprocess.PIPE, **more) as child:
            child.stdin.write(input)
            child.stdin.close()
            answer = child.stdout.readline()  # of the first file: the next one blocks
            child.kill()
        raise subprocess.TimeoutExpired(command, timeout, answer)

    monkeypatch.setattr(hdf5_gate.subprocess, "run", run)
    assert looked_at(disguised, good, "pipe", good) == ["", hdf5_gate.DIED, ""]


def test_a_tar_that_holds_such_a_file_leaves_nothing(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    tar.export(disguise(tmp_path / "there", TRICKS["external_link"], secret), tmp_path / "x.tar")
    with pytest.raises(
        CacheError, match="is not what melcache writes: sentence is not in it, or is a link to elsewhere"
    ):
        tar.take(tmp_path / "x.tar", tmp_path / "here")
    assert not (tmp_path / "here").exists()
