"""`melcache`: one program of all commands, from any folder, light until a command needs more."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from melcache import cli
from tests.worlds import synthetic_cache

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "open_clip", "torchvision", "h5py", "fsspec", "huggingface_hub", "pandas"}
SCRIPT = "import sys\nfrom melcache.__main__ import main\nsys.exit(main())\n"  # as an installer writes it


def melcache(*words, **more):
    return CliRunner().invoke(cli.PROGRAM, list(words), prog_name="melcache", **more)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with a cache, and with files of the user's own that have the names of our folders."""
    folder = tmp_path_factory.mktemp("elsewhere")
    synthetic_cache(folder / "shards/toy")
    (folder / "cache").mkdir()
    for name in ("train.py", "extract.py", "common.py", "cache/__init__.py"):
        (folder / name).write_text("raise SystemExit('shadowed')")
    (folder / "bin").mkdir()
    (folder / "bin/melcache").write_text(SCRIPT)
    return folder


@pytest.mark.parametrize("program", [["bin/melcache"], ["-m", "melcache"]])
def test_files_of_the_users_own_do_not_shadow_the_command_which_imports_little(elsewhere, program):
    command = [sys.executable, "-X", "importtime", *program, "info", "toy"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", str(ROOT)])}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "toy: 60 mentions" in done.stdout, done.stderr[-500:]
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.split("\n")}
    assert "melcache" in imported and imported & HEAVY == set()


def test_every_command_of_the_stages_is_there_once_and_in_a_group():
    names = [command.name for command in cli.COMMANDS]
    assert set(names) == set(
        "extract describe import synth info verify diff doctor push pull export card sign gc train compare ablate "
        "sweep costs explain slices predict evaluate report link serve".split()
    )
    assert len(names) == len(set(names)) == len(cli.app().commands)
    page = melcache("--help").stdout
    for command in cli.COMMANDS:
        group = page[page.index(f"{command.panel}:") :].split("\n\n")[0]
        assert re.search(rf"^  {command.name} +\w", group, re.MULTILINE), command.name


def test_version_is_that_of_the_package():
    assert melcache("--version").stdout == f"melcache {importlib.metadata.version('melcache')}\n"


def test_help_of_train_is_a_screen_and_shows_a_heads_options_where_the_head_is_named():
    page = melcache("train", "--help", terminal_width=100).stdout
    assert page.count("\n") <= 60 and "--edges" not in page and "melcache train --model drin --help" in page
    for words in (["--model", "drin"], ["--model=drin"]):
        shown = melcache("train", *words, "--help").stdout
        assert "\ndrin:\n" in shown and "--edges" in shown and "--phrases" not in shown
    shown = melcache("compare", "--models", "bert,ghmfc", "--help").stdout
    assert "--phrases" in shown and "--temperature" in shown and "--edges" not in shown
    wrong = melcache("train", "--model", "drinn", "--help")
    assert wrong.exit_code == 2 and "(did you mean drin?)" in wrong.stderr


@pytest.mark.parametrize(("typed", "found"), [("melcache tra", "train"), ("melcache train --patie", "--patience")])
def test_a_shell_completes_commands_and_options(typed, found):
    asked = {"_MELCACHE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert found in melcache(env=asked).stdout


def test_the_command_lines_of_before_run_the_same_commands():
    import extract.cli
    import train.cli

    for app, words, usage in (
        (extract.cli.app, ["--help"], "melcache extract [OPTIONS]"),
        (extract.cli.app, ["describe", "--help"], "melcache describe [OPTIONS]"),
        (train.cli.app, ["--help"], "melcache train [OPTIONS]"),
        (train.cli.app, ["sweep", "--help"], "melcache sweep [OPTIONS]"),
    ):
        done = CliRunner().invoke(app, words, prog_name="melcache")
        assert (done.exit_code, done.stdout.split("\n")[0]) == (0, f"Usage: {usage}")
    for app, words in ((cli.PROGRAM, ["trian"]), (train.cli.app, ["swep"])):
        assert "Did you mean" in CliRunner().invoke(app, words).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["extract", "--text-pooling", "max"], "'--text-pooling': .*'auto', 'cls', 'mean', 'last'"),
        (["extract", "--limit", "many"], "'--limit': .*integer"),
        (["extract", "--limti", "3"], "No such option: --limti .*--limit"),
        (["extract", "--limit"], "'--limit' requires an argument"),
        (["extract", "--limit", "3", "--limit", "4"], "--limit is given twice: leave one out"),
        (["describe"], "Missing option '--contact'"),
        (["synth"], "Missing argument 'OUT'"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["trian"], "No such command 'trian'"),
        (["train", "--seeds", "x"], "--seeds.*each a whole number"),
    ],
)
def test_what_click_refuses_is_one_line_as_any_error(words, told):
    done = melcache(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: .*{told}.* Options: melcache( {words[0]})? --help\n", done.stderr), done.stderr
    assert melcache().stderr.startswith("Usage: ") or melcache().stdout.startswith("Usage: ")
