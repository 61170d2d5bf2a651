"""What is printed never ends the work: ASCII, Latin-1, closed, full and broken streams, and bars on a lost terminal."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common import console, output
from common.errors import CacheError, MelcacheError
from torture.processes import child

ROOT = Path(__file__).parents[2]
WORK = """
import contextlib, os, warnings
from common import console, output
def work(prog_name):
    output.say("said ± here")
    with output.Progress(3, "bar", "steps") as progress:
        progress.advance(2)
        output.say("between")
        progress.advance()
    with open("done", "wb") as file:
        with contextlib.suppress(OSError):
            os.write(2, b"noise of a library")
        file.write(b"whole")
    console.show("84.7 ± 1.7")
    print("a library's")
    warnings.warn("a library's")
    open("after", "w").close()
console.run(work, "x")
"""
RESULT = "84.7 ± 1.7\na library's\n".encode()
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(tmp_path, redirect="", *, stdout=subprocess.PIPE, stderr=subprocess.PIPE, work=WORK, **environment):
    """Run `work` in `tmp_path` with streams as a shell redirects them; check that it came to its end."""
    (tmp_path / "work.py").write_text(work, encoding="utf-8")
    command = ["sh", "-c", f'exec "$0" work.py {redirect}', sys.executable]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=stdout, stderr=stderr, timeout=600)
    assert (tmp_path / "after").exists() and (tmp_path / "done").read_bytes() == b"whole"
    assert b"Traceback" not in (done.stderr or b"") and b"Exception" not in (done.stderr or b"")
    return done


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, b"84.7 \xb1 1.7"),
        (C, b"84.7 +- 1.7"),
    ],
)
def test_a_result_is_shown_with_what_the_terminal_has(tmp_path, environment, shown):
    done = run(tmp_path, **environment)
    assert (done.returncode, done.stdout) == (0, shown + b"\na library's\n")
    assert b"said " + shown[5:-4] in done.stderr


@pytest.mark.parametrize("redirect", [">&- <&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_take_nothing_and_no_file_becomes_one_of_them(tmp_path, redirect):
    done = run(tmp_path, redirect)
    assert done.returncode == 0
    assert done.stdout == (
        b"" if ">&- " in f"{redirect} " and redirect[0] == ">" else "84.7 ± 1.7\na library's\n".encode()
    )


def test_a_full_stdout_is_one_line_and_a_code_of_its_own(tmp_path):
    done = run(tmp_path, ">/dev/full")
    *_, last = done.stderr.decode().splitlines()
    assert done.returncode == console.LOST
    assert last == (
        "error: cannot print all of the result: No space left on device. The files that the command writes are complete"
    )


@pytest.mark.parametrize("redirect", ["2>/dev/full", ">/dev/full 2>/dev/full"])
def test_a_full_stderr_stops_nothing(tmp_path, redirect):
    done = run(tmp_path, redirect)
    full = redirect.startswith(">")
    assert (done.returncode, done.stdout) == ((console.LOST, b"") if full else (0, RESULT))


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reads, writes = os.pipe()
    os.close(reads)
    done = run(tmp_path, stdout=writes)
    os.close(writes)
    assert done.returncode == 0 and b"error" not in done.stderr


def test_bars_go_on_where_the_terminal_is_gone(tmp_path):
    terminal, own = pty.openpty()
    os.close(terminal)
    done = run(tmp_path, stderr=own)
    os.close(own)
    assert (done.returncode, done.stdout) == (0, RESULT)


def test_a_terminal_that_does_not_wait_gets_all(tmp_path):
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    work = WORK.replace('console.show("84.7 ± 1.7")', 'console.show("x" * 200_000)')
    with subprocess.Popen(
        [sys.executable, "-c", work], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=writes,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(writes)
        with open(reads, "rb") as pipe:
            shown = pipe.read()
        assert process.wait(timeout=600) == 0 and len(shown) == 200_000 + len("\na library's\n")


def test_what_the_system_refuses_is_one_line_and_a_bug_keeps_its_traceback(tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")

    def refused(prog_name):
        open(tmp_path / "loop").close()

    def told(prog_name):
        raise CacheError("one\x1b[2J\nline", "two\nlines")

    def bug(prog_name):
        open(tmp_path / "nothing").close()

    before = sys.stdout, sys.stderr
    for command, code, line in (
        (refused, MelcacheError.exit_code, f"error: {tmp_path}/loop: Too many levels of symbolic links\n"),
        (told, CacheError.exit_code, "error: one\ufffd[2J line\ntwo\nlines\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            console.run(command, "x")
        assert ended.value.code == code and capsys.readouterr().err == line
    with pytest.raises(FileNotFoundError):
        console.run(bug, "x")
    assert (sys.stdout, sys.stderr) == before
    assert str(CacheError("one", "two")) == "one\ntwo" and str(CacheError("one")) == "one"


def test_a_folder_that_was_removed_under_a_command_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as ended, console.lines():
        os.path.abspath("shards")
    assert ended.value.code == 2
    assert re.fullmatch("error: the folder that this was started in has been removed.*\n", capsys.readouterr().err)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError), console.lines():  # a bug keeps its traceback
        (tmp_path / "shards").read_text()


def test_output_is_whole_where_nothing_was_made_ready():
    import typer

    app = typer.Typer()
    app.command()(lambda: console.show("±"))
    assert CliRunner().invoke(app, []).stdout == "±\n"


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(output, "time", found)
    return found


def test_no_time_is_left_before_work_tells_it(clock, capsys):
    """The weights take a minute and the first batch one more, of which a rate of hours came."""
    with output.Progress(1000, "mention", "rows") as progress:
        for seconds, rows in ((120, 8), (31, 8), (40, 12), (0.5, 2), (2, 8), (31, 124)):
            clock.now += seconds
            with output.loading("json"):
                clock.now += 0.1 if rows == 8 else 0  # a library that is loaded midway is no work
            progress.advance(rows)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["mention: 8 of 1,000 rows", "mention: 16 of 1,000 rows"]
    assert said[2] == "mention: 28 of 1,000 rows, 57 min 31 s left"  # 20 rows in 71 s and 0.1 s of loading
    assert said[3] == "mention: 162 of 1,000 rows, 9 min 29 s left" and len(said) == 4  # 154 in 104.5 s


def test_a_bar_has_no_eta_either_before_work_tells_it(clock, monkeypatch):
    bars = []

    class Bar(output.tqdm):
        def __init__(self, **given):
            super().__init__(**given | {"file": io.StringIO(), "mininterval": 0})
            bars.append(self)

    monkeypatch.setattr(output, "tqdm", Bar)
    monkeypatch.setattr(output.console, "err", lambda: type("Terminal", (), {"isatty": lambda self: True})())
    with output.Progress(100, "entity", "rows") as progress:
        clock.now += 60
        progress.advance(1)
        assert "left" not in str(bars[0]) and "<" not in str(bars[0]) and "1/100" in str(bars[0])
        clock.now += 10
        progress.advance(9)
        assert str(bars[0]).endswith(", 1 min 40 s left]")


def test_a_sigterm_ends_a_command_in_order(tmp_path):
    """Claims are dropped, temporary files removed, workers told to end."""

    def work(prog_name):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # and again meanwhile
            (tmp_path / "removed").touch()

    def command():
        try:
            console.run(work, "x")
        except SystemExit as ended:
            (tmp_path / "code").write_text(str(ended.code))

    _, status = os.waitpid(child(command), 0)
    assert status == 0 and (tmp_path / "code").read_text() == "143" and (tmp_path / "removed").exists()
