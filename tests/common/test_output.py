"""What a terminal, a pipe and NO_COLOR see: a live line with a note, signs in tables, bold only where it may be."""

import dataclasses
import io
import re
import sys

import pytest
from typer.testing import CliRunner

from common import commands, console, output
from common.commands import Command
from common.options import knob


@dataclasses.dataclass(frozen=True)
class Plain:
    """A config without knobs of its own."""

    size: int = knob(1, "how much")


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        return True


@pytest.fixture
def streams(monkeypatch):
    """Makes stdout and stderr terminals, and returns them; what is said of a command does not last."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def install():
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, Terminal())
        return sys.stdout, sys.stderr

    yield install
    output.speak()


def test_a_live_line_ends_with_its_note(streams):
    _, stderr = streams()
    with output.Progress(10, "bert, seed 0", "steps") as progress:
        progress.advance(3)
        progress.note("epoch 1 of 3, valid top1 63.5")
    assert "epoch 1 of 3, valid top1 63.5" in stderr.getvalue() and "\r" in stderr.getvalue()


@pytest.mark.parametrize(("talk", "lines"), [({}, 0), ({"quiet": True}, 0), ({"verbose": True}, 1)])
def test_a_pipe_has_a_line_for_each_note_only_if_asked(streams, monkeypatch, talk, lines):
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    output.speak(**talk)
    with output.Progress(10, "bert, seed 0", "steps") as progress:
        progress.note("epoch 1 of 3")
    assert pipe.getvalue() == "bert, seed 0: epoch 1 of 3\n" * lines


def test_plain_lines_that_are_due_hold_the_note(streams, monkeypatch):
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    monkeypatch.setattr(output, "LINE_SECONDS", 0.0)
    with output.Progress(10, "bert", "steps") as progress:
        progress.note("epoch 1 of 3")
        progress.advance()
    assert pipe.getvalue() == "bert: 1 of 10 steps, epoch 1 of 3\n"


@pytest.mark.parametrize("case", ["bold", "NO_COLOR", "dumb", "pipe"])
def test_bold_is_never_the_only_sign(streams, monkeypatch, case):
    streams()
    if case == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    elif case == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif case == "pipe":
        monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.show_marked("drin  65.5 ± 0.8*  0.0004†\nbert  60.1 ± 0.7   a*b\n\x1b[31mred")
    shown = sys.stdout.getvalue()
    assert ("\x1b[1m65.5 ± 0.8*\x1b[0m" in shown and "\x1b[1m0.0004†\x1b[0m" in shown) == (case == "bold")
    assert "65.5 ± 0.8*" in shown and "0.0004†" in shown and "\x1b[31m" not in shown
    assert "\x1b[1ma*b" not in shown


def test_stars_stand_at_the_highest_and_columns_keep_their_places():
    assert output.starred(["60.0", "70.0", "70.0", "-"], [0.6, 0.7, 0.7, 0.9]) == ["60.0 ", "70.0*", "70.0*", "- "]
    assert output.starred(["-", "-"], [0.0, 0.0]) == ["- ", "- "]
    lines = output.table(("head", "top1"), [("a", "9.0 "), ("b", "70.0*")]).splitlines()
    assert [line.rstrip() for line in lines] == ["head   top1", "----  -----", "a      9.0", "b     70.0*"]


def test_a_command_takes_quiet_and_verbose_and_its_config_does_not_know(streams):
    told = []

    def run(config):
        """Do it."""
        told.append((config, output._quiet, output._verbose))

    app = commands.program([Command("do", "Do", Plain, run), Command("other", "Do", Plain, run)])
    for flags, expected in (([], (False, False)), (["-q"], (True, False)), (["--verbose"], (False, True))):
        assert CliRunner().invoke(app, ["do", *flags]).exit_code == 0
        assert told.pop() == (Plain(), *expected)
    both = CliRunner().invoke(app, ["do", "-q", "-v"])
    assert both.exit_code == 2 and "exclude each other" in both.output and not told
    assert re.search(r"-q, --quiet|--quiet, -q", CliRunner().invoke(app, ["do", "--help"]).output)
