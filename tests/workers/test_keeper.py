"""A worker where an engine has put it: started again where a signal has ended it, and never without its parent."""

import os
import signal

import pytest

from torture.processes import doomed, until
from workers import keeper, ray_task
from workers.keeper import keep


def lines(path):
    return path.read_text().split() if path.exists() else []


def gone(pid):
    return not os.path.exists(f"/proc/{pid}/cwd")


@pytest.mark.parametrize(
    ("script", "status", "starts"),
    [
        ("exit 0", 0, 1),
        ("exit 3", 3, 1),
        ("kill -KILL $$", -9, 1 + keeper.AGAIN),
        ("exit 143", 143, 1 + keeper.AGAIN),  # a SIGTERM, after which it has ended in order
        ("kill -USR2 $$; exit 5", 5, 1),  # which tells a job, not its worker, of a preemption
        ('test $(wc -l < "$LOG") = 2 || kill -KILL $$', 0, 2),
    ],
)
def test_a_worker_that_a_signal_ends_is_started_again(tmp_path, script, status, starts):
    log, again = tmp_path / "log", []
    words = ["/bin/sh", "-c", f'pwd >> "$LOG"; {script}']
    assert keep(words, {"LOG": str(log)}, str(tmp_path), before_again=lambda: again.append(1)) == status
    assert lines(log) == [str(tmp_path)] * starts and len(again) == starts - 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(tmp_path, number):
    log = tmp_path / "log"
    words = ["/bin/sh", "-c", f"echo $$ >> {log}; exec sleep 60"]
    with doomed(lambda: keep(words, {}, str(tmp_path))) as parent:
        until(lambda: lines(log), "the worker has begun")
        os.kill(parent, number)
    until(lambda: gone(lines(log)[0]), "the worker ends")


def test_no_worker_begins_whose_parent_has_ended_meanwhile(tmp_path, monkeypatch):
    """It dies before its worker has said that it is to end with it."""
    begun, gate, log = tmp_path / "begun", tmp_path / "gate", tmp_path / "log"
    wait = (
        f"import os, time; open({str(begun)!r}, 'w').write(f'{{os.getpid()}} ')\n"
        f"while not os.path.exists({str(gate)!r}) and os.path.exists({str(tmp_path)!r}): time.sleep(0.01)\n"
    )
    monkeypatch.setattr(keeper, "BEGIN", wait + keeper.BEGIN)
    with doomed(lambda: keep(["/bin/sh", "-c", f"echo x > {log}"], {}, str(tmp_path))):
        until(lambda: lines(begun), "its process is there")
    gate.touch()
    until(lambda: gone(lines(begun)[0]), "its process ends")
    assert not log.exists()


def test_a_task_tells_its_status_and_its_last_line(tmp_path):
    code = "import sys; print('first'); sys.exit('last word ' + sys.argv[1])"
    found = ray_task.work(["-c", code, "x" * 600], {}, str(tmp_path), str(tmp_path))
    assert found == (1, ("last word " + "x" * 600)[: ray_task.TAIL]) and not list(tmp_path.iterdir())


def test_a_node_that_does_not_see_the_shared_folder_says_so(tmp_path):
    status, said = ray_task.work(["-c", "0"], {}, str(tmp_path / "shards"), str(tmp_path))
    assert status == 1 and said.endswith(f"has no folder {tmp_path}/shards: all nodes must share its file system")
