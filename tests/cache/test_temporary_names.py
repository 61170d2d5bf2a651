"""Temporary files: whose they are, and when their writer counts as dead, across machines and PID namespaces."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cache import store
from cache.remotes import folder as folders
from cache.store import lacking, temporary_names
from cache.store.resumable_file import Growing
from cache.store.temporary_names import Home, TemporaryName

ROOT = Path(__file__).parents[2]
HERE, KERNEL = temporary_names._here(), "0123456789ab"
APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def dead():
    """The pid of a process that has ended."""
    return int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout)


def put(folder, home, pid, start, quiet=0.0, data=b"x"):
    """Write a temporary file of a writer, written to `quiet` seconds ago; without a boot it is of an old version."""
    where = f"{home.host}.{home.boot}.{home.namespace}" if home.boot else home.host
    path = folder / f"{temporary_names.PREFIX}{where}-{pid}-{start}-{os.urandom(3).hex()}"
    path.write_bytes(data)
    os.utime(path, (time.time() - quiet,) * 2)
    return path


def test_a_name_tells_host_kernel_namespace_process_and_start():
    name, again = str(TemporaryName.new()), str(TemporaryName.new())
    assert name != again and len(name) < 120
    found = re.fullmatch(r"\.partial-(.+)\.([0-9a-f]{12})\.([0-9]+)-([0-9]+)-([0-9]+)-[0-9a-f]{12}", name)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")
    assert boot.startswith(found[2]) and f"pid:[{found[3]}]" == os.readlink("/proc/self/ns/pid")
    assert int(found[4]) == os.getpid() and found[5] == Path("/proc/self/stat").read_text().split()[21]


def test_a_name_is_read_back_and_says_whether_the_file_can_be_continued():
    for name in (TemporaryName.new(), TemporaryName.new("ab" * 32), TemporaryName.new("ab" * 32).left()):
        assert TemporaryName.parse(str(name)) == name and name.continues("ab" * 32) == bool(name.content)
    begun = TemporaryName.parse(f".partial-host.{KERNEL}.4026530000-17-5-aabb-{'ab' * 8}")
    assert begun == TemporaryName(Home("host", KERNEL, "4026530000"), 17, 5, "aabb", "ab" * 8)
    old = TemporaryName.parse(".partial-else.where-17-5-aabb")  # of before names told kernel and namespace
    assert old == TemporaryName(Home("else.where", "", ""), 17, 5, "aabb") and not old.continues("ab" * 32)
    assert TemporaryName.parse(".partial-x") is TemporaryName.parse(f".partial-x-{'9' * 5000}-1-aabb") is None


def test_where_pids_mean_the_same_a_process_is_alive_or_not_whatever_the_age(tmp_path, dead):
    mine = os.getpid()
    assert not temporary_names.abandoned(put(tmp_path, HERE, mine, temporary_names._start(mine), quiet=1e6))
    assert temporary_names.abandoned(put(tmp_path, HERE, mine, 1))  # another process had this pid
    assert temporary_names.abandoned(put(tmp_path, HERE, dead, 5))
    assert temporary_names.abandoned(put(tmp_path, HERE, 0, 1))  # ended in order
    with subprocess.Popen(["sleep", "0"]) as ended:
        while Path(f"/proc/{ended.pid}/stat").read_text().split()[2] != "Z":  # nobody has asked for it yet
            time.sleep(0.001)
        start = Path(f"/proc/{ended.pid}/stat").read_text().split()[21]
        assert temporary_names.abandoned(put(tmp_path, HERE, ended.pid, start))


@pytest.mark.parametrize("host", [HERE.host, "elsewhere"])  # containers share a host name, or have their own
def test_in_another_namespace_of_this_kernel_the_lock_tells(tmp_path, monkeypatch, dead, host):
    other = Home(host, HERE.boot, "4026530000")
    path = put(tmp_path, other, dead, 5)
    with path.open("ab") as file:
        assert lacking.lock(file.fileno(), None)
        assert not temporary_names.abandoned(path)
    assert temporary_names.abandoned(path)
    empty = put(tmp_path, other, dead, 5, data=b"")  # made, and perhaps not locked yet
    assert not temporary_names.abandoned(empty)

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(temporary_names.fcntl, "flock", no_locks)
    assert not temporary_names.abandoned(path) and temporary_names.abandoned(
        put(tmp_path, other, dead, 5, quiet=25 * 3600)
    )


def test_a_writer_of_each_kind_is_seen_from_another_namespace(tmp_path, monkeypatch):
    seen, really = [], temporary_names._here
    path = tmp_path / "a.h5"

    def look():
        monkeypatch.setattr(temporary_names, "_here", lambda: replace(HERE, namespace="4026530000"))
        seen.append((store.sweep(tmp_path), [entry.name.split("-")[0] for entry in tmp_path.iterdir()]))
        monkeypatch.setattr(temporary_names, "_here", really)

    place = store.place
    monkeypatch.setattr(store, "place", lambda *given, **more: (look(), place(*given, **more))[1])
    assert store.publish(path, b"data", replace=False)
    with store.published(tmp_path / "b.tar") as file:
        file.write(b"data")
        file.flush()
        look()
    with Growing(tmp_path / "c.h5", "ab" * 32) as growing:
        growing.write(b"data")
        look()
        growing.place(replace=False)
    assert len(seen) == 5 and all(swept == 0 and ".partial" in names for swept, names in seen)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.h5", "b.tar", "c.h5"]


def test_what_a_dead_writer_of_another_namespace_has_left_is_continued_and_of_a_living_one_not(tmp_path, monkeypatch):
    content = "ab" * 32
    with Growing(tmp_path / "a.h5", content) as living:
        living.write(b"begun")
        monkeypatch.setattr(temporary_names, "_here", lambda: replace(HERE, namespace="4026530000"))
        with Growing(tmp_path / "a.h5", content) as other:
            assert other.size == 0
        os.close(living._descriptor)  # a kill lets go of the lock, and leaves the name
        with Growing(tmp_path / "a.h5", content) as other:
            assert other.size == 5 and b"".join(other.blocks()) == b"begun"
            other.clear()
        living._descriptor = os.open(tmp_path, os.O_RDONLY)  # which its end closes
    assert list(tmp_path.iterdir()) == []


def test_of_another_kernel_only_age_tells_but_what_is_older_than_this_one_is_of_before_a_restart(tmp_path):
    day, up = temporary_names.STALE_SECONDS, time.clock_gettime(time.CLOCK_BOOTTIME)
    for home, quiet, gone in (
        (replace(HERE, boot=KERNEL), min(up, day) / 2, False),
        (replace(HERE, boot=KERNEL), min(up, day) + 60, True),
        (Home("elsewhere", KERNEL, HERE.namespace), day - 60, False),
        (Home("elsewhere", KERNEL, HERE.namespace), day + 60, True),
    ):
        assert temporary_names.abandoned(put(tmp_path, home, os.getpid(), 1, quiet)) == gone


def test_a_name_of_an_older_version_says_no_namespace_so_its_writer_is_given_time(tmp_path, dead):
    mine, old, day = os.getpid(), Home(HERE.host, "", ""), temporary_names.STALE_SECONDS
    alive = temporary_names._start(mine)
    for home, pid, start, quiet, gone in (
        (old, mine, alive, day + 60, False),
        (old, dead, 5, temporary_names.QUIET_SECONDS - 60, False),
        (old, dead, 5, temporary_names.QUIET_SECONDS + 60, True),
        (old, dead, 0, temporary_names.QUIET_SECONDS + 60, False),  # it could not tell its start
        (replace(old, host="else.where"), mine, 5, day - 60, False),
        (replace(old, host="else.where"), mine, 5, day + 60, True),
    ):
        assert temporary_names.abandoned(put(tmp_path, home, pid, start, quiet)) == gone
    for name in (
        temporary_names.PREFIX,
        f"{temporary_names.PREFIX}x",
        f"{temporary_names.PREFIX}{HERE.host}-a-b-c",
    ):  # nobody's
        (tmp_path / name).touch()
        assert not temporary_names.abandoned(tmp_path / name)


def test_where_proc_is_that_of_another_namespace_it_tells_nothing_of_pids(tmp_path, monkeypatch, dead):
    path = put(tmp_path, HERE, dead, 5)
    monkeypatch.setattr(temporary_names.os, "readlink", lambda name: "1" if name == "/proc/self" else "pid:[1]")
    assert temporary_names._start(os.getpid()) is None and TemporaryName.new().start == 0
    monkeypatch.setattr(temporary_names, "_here", lambda: HERE)
    with path.open("ab") as file:
        lacking.lock(file.fileno(), None)
        assert not temporary_names.abandoned(path)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare of util-linux")
def test_a_sweep_in_a_real_namespace_leaves_what_is_being_written_here(tmp_path):
    code = "import sys; from pathlib import Path; from cache import store; print(store.sweep(Path(sys.argv[1])))"
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make namespaces")
    for written in ("being", "left"):
        with (tmp_path / str(TemporaryName.new())).open("wb") as file:
            lacking.lock(file.fileno(), None)
            file.write(b"x")
            file.flush()
            if written == "being":
                done = subprocess.run([*APART, sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True)
                assert done.stdout == b"0\n", done.stderr
    done = subprocess.run([*APART, sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True)
    assert done.stdout == b"2\n" and list(tmp_path.iterdir()) == []


def test_a_push_in_another_namespace_waits_for_the_lock_and_takes_a_dead_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "LOCK_WAIT", 0.05)
    place, lock = folders.Folder(tmp_path), tmp_path / folders.LOCK
    lock.parent.mkdir()
    with place._turn():
        monkeypatch.setattr(temporary_names, "_here", lambda: replace(HERE, namespace="4026530000"))
        with pytest.raises(store.CacheError, match="another push holds"), place._turn():
            pass
        name = lock.read_bytes()
    assert not lock.exists()
    lock.write_bytes(name)  # as a kill leaves it
    with place._turn():
        assert lock.read_bytes() != name
    assert not lock.exists()


def test_an_empty_lock_is_that_of_a_push_that_died_before_it_had_written_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "LOCK_WAIT", 0.05)
    monkeypatch.setattr(folders, "LOCK_EMPTY", 500.0)  # where the machine may stall
    place, lock = folders.Folder(tmp_path), tmp_path / folders.LOCK
    lock.parent.mkdir()
    for content, quiet in ((b"", folders.LOCK_EMPTY), (b"\xff\x1b not ours", folders.LOCK_LOST), (b"x" * 9999, 601)):
        lock.write_bytes(content)
        os.utime(lock, (time.time() - quiet / 2,) * 2)
        with pytest.raises(store.CacheError, match="another push holds"), place._turn():
            pass
        os.utime(lock, (time.time() - quiet - 1,) * 2)
        with place._turn():
            assert lock.read_bytes().startswith(temporary_names.PREFIX.encode())
        assert not lock.exists()
