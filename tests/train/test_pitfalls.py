"""docs/pitfalls.md: every command of the page is run in order, and prints the figures that stand below it."""

import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

from typer.testing import CliRunner

from melcache import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pitfalls.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
BLOCKS = re.findall(r"```bash\n(.*?)```\n```\n(.*?)```", PAGE, re.DOTALL)  # commands, and what they print
NEAR = 2.5  # points, by which another processor's floats may differ


def run(command):
    """Return what a command of the page prints on stdout."""
    words = shlex.split(command)
    if words[0] == "python":
        sys.argv = [str(ROOT / words[1]), *words[2:]]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return out.getvalue()
    done = CliRunner().invoke(cli.PROGRAM, words[1:])
    assert done.exit_code == 0, done.output
    return done.stdout


def shape(line):
    """A line without its numbers and without how wide its columns are."""
    return " ".join(NUMBER.sub("#", line).split())


def test_the_commands_of_the_page_print_its_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert len(BLOCKS) == PAGE.count("```bash") == 8
    for commands, expected in BLOCKS:
        printed = iter("".join(map(run, commands.splitlines())).splitlines())
        for line in expected.splitlines():
            found = next((told for told in printed if shape(told) == shape(line)), None)
            assert found is not None, f"{commands}prints no line like: {line}"
            for told, said in zip(NUMBER.findall(found), NUMBER.findall(line), strict=True):
                assert abs(float(told) - float(said)) <= NEAR, f"{found}\n{line}"


def test_the_effects_are_those_that_the_page_speaks_of():
    """The figures of the page themselves: what misleads is far from what the referee says."""
    top1 = {line.split()[0]: float(line.split()[1]) for _, block in BLOCKS for line in block.splitlines()[:1]}
    assert top1["constant"] == top1["gold-first"] == 10 and top1["namesake"] == 0
    assert top1["leak"] > 80 and top1["chosen"] > 15 > 12.5 and max(top1["sampled-0"], 60) < top1["bert"]
