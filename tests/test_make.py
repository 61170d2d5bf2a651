"""The Makefile hands values on as they are given, and refuses variables that nobody reads; setup.sh finds uv."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from common import by_make, console, output

ROOT = Path(__file__).parent.parent
HARD = [
    "my data",
    "it's",
    "data(1)",
    "a;touch RAN",
    "$(touch RAN)",
    "$HOME $x $$",
    "`touch RAN`",
    'a"b',
    "a\\b",
    "a\nb",
    "#*?",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with the Makefile, and a Python that shows the words of its command line, a line in brackets each."""
    folder = tmp_path_factory.mktemp("check out")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "common").mkdir()
    shutil.copy(ROOT / "common/words.py", folder / "common")
    for name in ("requirements.lock", "pyproject.toml", "setup.sh"):
        (folder / name).touch()
    program(folder / ".venv/bin/python", 'for word; do printf "[%s]\\n" "$word"; done')
    (folder / ".venv/.ready").touch()
    return folder


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def make(folder, *words, **environment):
    """Run make; return its exit status, the words that reached the command, and what it said."""
    wanted = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | environment
    done = subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, env=wanted)
    return done.returncode, re.findall(r"^\[(.*?)\]$", done.stdout, re.MULTILINE | re.DOTALL), done.stderr


def test_messages_name_what_make_takes(checkout, monkeypatch, capsys):
    shell = checkout / ".venv/bin/python"
    before = shell.read_text()
    program(shell, 'printf "[%s]\\n" "$MELCACHE_MAKE"')
    for goal, names in GOALS.items():
        taken = make(checkout, goal)[1][0].split()
        assert set(names.split()) <= set(taken) <= {*names.split(), "ARGS", *by_make.SWITCHES}, goal
    monkeypatch.setenv(by_make.TAKEN, make(checkout, "extract")[1][0])
    shell.write_text(before)
    for said, more in (
        ("--limit is 0; it must be at least 1", "(make: LIMIT=...)"),
        ("--push needs --remote URL", "(make: PUSH=1, REMOTE=...)"),
        ("a manifest lists 7,000: give --shard-rows 4096", "(make: ARGS='--shard-rows ...')"),
        (
            "--infer-gender and --faces are for heads: add --for dwe",
            "(make: FOR=..., ARGS='--infer-gender --faces ...')",
        ),
        ("more than --max-missing 0.05 allows. Pass at least --max-missing 1", "(make: MAX_MISSING=...)"),
        ("take it afresh: melcache pull toy URL --replace", ""),
        ("Compute them: melcache extract --dataset toy --for dwe. Or give --name", "(make: NAME=...)"),
        ("no option at all, ---, --, a--b, x/--limit and --x", ""),
    ):
        console.complain(said)
        output.say(f"warning: {said}")
        wanted = f"{said} {more}".rstrip()
        assert capsys.readouterr().err == f"error: {wanted}\nwarning: {wanted}\n"
    for variables in ("", None):  # `make test`, and no make
        monkeypatch.delenv(by_make.TAKEN) if variables is None else monkeypatch.setenv(by_make.TAKEN, variables)
        console.complain("--limit is 0")
        assert capsys.readouterr().err == "error: --limit is 0\n"


def test_commands_are_suggested_as_they_are_typed(checkout, monkeypatch):
    shell = checkout / ".venv/bin/python"
    before = shell.read_text()
    program(shell, 'printf "[%s]\\n" "$MELCACHE_TARGETS"')
    targets = make(checkout, "train")[1][0]
    shell.write_text(before)
    given = {"dataset": "my toy", "for": "ghmfc,dwe", "faces": "x y", "push": None, "reorder": None}
    by_hand = "melcache extract --dataset 'my toy' --for ghmfc,dwe --faces 'x y' --push --reorder"
    by_make_ = "make extract 'DATASET=my toy' FOR=ghmfc,dwe PUSH=1 "
    monkeypatch.delenv(by_make.TARGETS, raising=False)
    assert by_make.suggested("extract", given) == by_hand
    monkeypatch.setenv(by_make.TARGETS, targets)
    found = by_make.suggested("extract", given)
    assert found.startswith(by_make_) and found.count("ARGS=") == 1
    hidden = {"MELCACHE_MAKE": "", "MELCACHE_TARGETS": "", "MAKELEVEL": ""}
    program(shell, 'for word; do printf "[%s]\\n" "$word"; done')
    typed = subprocess.run(found, shell=True, cwd=checkout, capture_output=True, text=True, env=os.environ | hidden)
    words = re.findall(r"^\[(.*?)\]$", typed.stdout, re.MULTILINE)  # what is suggested does what is meant
    assert {"my toy", "ghmfc,dwe", "--push", "--faces", "x y", "--reorder"} <= set(words), typed.stderr
    assert by_make.suggested("compare", {"dataset": "x"}) == "make reproduce DATASET=x"
    assert by_make.suggested("verify", {}) == "melcache verify"


GOALS = {
    "extract": "DATASET DATA SHARDS NAME WEIGHTS MAX_MISSING LIMIT DEVICE FOR TEXT IMAGE JOINT DETECTOR "
    "DESCRIPTIONS WORKERS_ON SLURM REMOTE",
    "describe": "DATASET DATA DESCRIPTIONS CONTACT",
    "train": "DATASET SHARDS MODEL EPOCHS SEEDS DEVICE RUN",
    "reproduce": "DATASET DATASETS SHARDS MODELS EPOCHS SEEDS DEVICE RUN WORKERS_ON SLURM",
    "bench": "RECORD",
    "torture": "RECORD SEED ONLY CASES",
    "demo": "SHARDS",
}


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("value", HARD)
def test_a_value_is_one_word_as_given(checkout, goal, value):
    names = GOALS[goal].split()
    values = {name: f"{name.lower()} {value}" for name in names}
    status, words, said = make(checkout, goal, *(f"{name}={values[name]}" for name in names))
    assert (status, said) == (0, "")
    assert set(values.values()) <= set(words)
    assert not (checkout / "RAN").exists()


def test_a_value_of_the_environment_is_taken_as_it_stands_too(checkout):
    assert "a $x $(shell touch RAN)" in make(checkout, "train", RUN="a $x $(shell touch RAN)")[1]
    assert not (checkout / "RAN").exists()


def test_what_is_not_given_is_left_out(checkout):
    assert make(checkout, "train", "SEEDS=")[1] == (
        ["-m", "melcache", "train", "--dataset", "demo", "--shards", "shards", "--model", "drin", "--device", "auto"]
    )
    assert make(checkout, "describe", "DATA=my data/")[1][-1] == "my data.descriptions.jsonl"


def test_arguments_are_words_that_the_shell_splits(checkout):
    words = make(checkout, "train", "ARGS=--patience 5 --run 'my run' --option a=$HOME", HOME="/home/me")[1]
    assert words[-6:] == ["--patience", "5", "--run", "my run", "--option", "a=/home/me"]


def test_switches_are_yes_or_no_in_any_spelling(checkout):
    asked = {"--push", "--plan", "--explain"}
    assert asked <= set(make(checkout, "extract", "PUSH=1", "PLAN=yes", "EXPLAIN=True")[1])
    assert not asked & set(make(checkout, "extract", "PUSH=0", "PLAN=no", "EXPLAIN=")[1])
    status, words, said = make(checkout, "extract", "PUSH=please")
    assert status and not words and "PUSH=please: expected 1 or 0" in said
    for goal in ("train", "reproduce"):
        assert "--report" in make(checkout, goal, "REPORT=1")[1] and "--report" not in make(checkout, goal)[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train SEED=3 EPOCH=1", r"make train takes no EPOCH \(did you mean EPOCHS\?\) SEED \(did you mean SEEDS\?\);"),
        ("train dataset=x", r"takes no dataset \(did you mean DATASET\?\)"),
        ("extract DATSET=x", r"takes no DATSET \(did you mean DATASET\?\)"),
        ("train PATIENCE=5", r"takes no PATIENCE; it takes ARGS .*Other options of the command: ARGS='--option value'"),
        ("demo DATASET=x", r"make demo takes no DATASET; it takes SHARDS\."),
        ("torture SEEDS=1", r"takes no SEEDS \(did you mean SEED\?\)"),
        ("setup EXTRA=s3", r"takes no EXTRA \(did you mean EXTRAS\?\)"),
        ("test X=1", r"make test takes no X; it takes no variable\."),
        ("X=1", r"make help takes no X"),
        ("train it's=$(touch_RAN)", r"takes no it's;"),
    ],
)
def test_a_variable_that_is_not_read_is_an_error(checkout, given, said):
    status, words, told = make(checkout, *given.split())
    assert status == 2 and not words
    assert re.search(said, told) and told.count("\n") == 1


def test_goals_together_take_what_any_of_them_takes(checkout):
    status, words, _ = make(checkout, "extract", "train", "DATASET=x", "LIMIT=5", "SEEDS=1")
    assert status == 0 and {"--limit", "--seeds"} <= set(words)


# --- setup.sh

TOOLS = "make sh sed tr sort grep touch cat dirname mkdir".split()
UV = 'printf "[%s]" "$@"; echo; [ "$1" != venv ] || mkdir -p .venv'


@pytest.fixture
def fresh(tmp_path):
    """A checkout without its environment, and tools/, whose programs are all that a PATH needs beside uv."""
    for name in ("Makefile", "setup.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    for name in TOOLS:
        (tmp_path / "tools" / name).symlink_to(shutil.which(name))
    return tmp_path


def test_setup_looks_for_uv_outside_the_environment_that_it_makes(fresh):
    program(fresh / ".venv/bin/python3", "exit 1")
    program(fresh / "other/python3", "exit 1")  # another environment without uv, which is active
    program(fresh / "system/python3", f'[ "$2" = uv ] || exit 1; shift 2; {UV}')
    path = f"{fresh}/.venv/bin:{fresh}/other:{fresh}/system:{fresh}/tools"
    status, words, said = make(fresh, "setup", PATH=path)
    assert status == 0 and "sync" in "".join(words)
    first, *_, last = said.splitlines()  # what is done, and what is next
    assert re.match(r"making \.venv of \d+ packages", first) and ".venv is ready" in last


def test_extras_are_checked_installed_within_the_lock_and_remembered(fresh):
    program(fresh / "programs/uv", UV)
    path = f"{fresh}/programs:{fresh}/tools"
    status, _, said = make(fresh, "setup", "EXTRAS=s3,tensorbord", PATH=path)
    known = "extract faiss gcs hf pandas plot ray s3 serve slurm sweep tensorboard"
    assert status and f"EXTRAS=tensorbord: expected some of: {known}" in said
    installed = "--constraint][requirements.lock][--requirement][pyproject.toml]"
    words = "".join(make(fresh, "setup", "EXTRAS=s3, plot", PATH=path)[1])
    assert "sync" in words and f"{installed}[--extra][plot][--extra][s3" in words
    words = "".join(make(fresh, "setup", "EXTRAS=tensorboard", PATH=path)[1])
    assert "sync" not in words and f"{installed}[--extra][plot][--extra][s3][--extra][tensorboard" in words
    assert make(fresh, "setup", PATH=path) == (0, [], "")
    later = (fresh / ".venv/.ready").stat().st_mtime + 5
    os.utime(fresh / "requirements.lock", (later, later))
    words = "".join(make(fresh, "setup", PATH=path)[1])
    assert "sync" in words and "[--extra][tensorboard" in words


def test_every_extra_of_the_project_is_one_that_setup_takes(fresh):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    program(fresh / "programs/uv", UV)
    path = f"{fresh}/programs:{fresh}/tools"
    assert make(fresh, "setup", f"EXTRAS={','.join(extras)}", PATH=path)[0] == 0
