"""Options of every command: what is given twice is joined or refused, never dropped."""

import dataclasses

import pytest
import torch
import typer
from typer.testing import CliRunner

import extract.cli
import melcache.cli
import train.cli
from common import console
from common.commands import Command, program
from common.options import knob


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A config without a knob."""


APPS = {"melcache": melcache.cli.PROGRAM, "extract": extract.cli.app, "train": train.cli.app}


def commands(app):
    """Every command of an app with all its knobs, and the app."""
    root = typer.main.get_command(app)
    return [root, *(root.resolve_command(root.make_context("x", [name]), [name])[1] for name in root.commands)]


def program_of(run, config, *more):
    """A program of one command, which is its default."""
    run.__doc__ = "Run."
    return program([Command("run", "Try", config, run, more=lambda words: more)], default="run")


def options(app):
    """Each option of each command once per name that it has."""
    return [
        (place, option, name)
        for place in commands(app)
        for option in place.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--") and name != "--help"
    ]


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_every_option_that_is_no_list_is_refused_if_given_twice(app):
    lists = set()
    assert len(options(app)) > 20
    for place, option, name in options(app):
        value = [] if option.is_flag else ["x"]
        if option.multiple:
            lists.add(name)
            continue
        for second in (option.opts[0], name, *option.secondary_opts[:1]):
            with pytest.raises(Exception, match="given twice: leave one out") as caught:
                place.make_context("command", [name, *value, second, *value])
            assert caught.value.exit_code == 2
    expected = {"extract": {"--for"}, "train": {"--seeds", "--edges", "--models", "--by"}}
    expected["melcache"] = expected["extract"] | expected["train"]
    assert lists >= next(expected[name] for name, known in APPS.items() if known is app)


@dataclasses.dataclass(frozen=True)
class Lists:
    """Two lists."""

    seeds: tuple[int, ...] = knob((0,), "numbers")
    heads: tuple[str, ...] = knob((), "names", flag="--for")


@dataclasses.dataclass(frozen=True)
class Own:
    """A list that a second class has."""

    edges: tuple[str, ...] = knob(("a", "b"), "kept", panel="own")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ((0,), (), {})),
        ("--for dwe --for ghmfc", ((0,), ("dwe", "ghmfc"), {})),
        ("--for dwe,bert --for ghmfc --seeds 3", ((3,), ("dwe", "bert", "ghmfc"), {})),
        ("--seeds 1,2 --seeds 4", ((1, 2, 4), (), {})),
        ("--edges b --edges a", ((0,), (), {"edges": ("b", "a")})),
    ],
)
def test_a_list_given_twice_is_joined(given, expected):
    seen = []
    app = program_of(lambda config, own: seen.append((config.seeds, config.heads, own.values)), Lists, Own)
    assert CliRunner().invoke(app, given.split()).exit_code == 0
    assert seen == [expected]


@pytest.mark.parametrize(("given", "said"), [("1 --seeds x", "1,x"), ("0,,1", "0,,1"), ("0,1,", "0,1,"), (",", ",")])
def test_what_is_no_number_in_a_list_is_named(given, said):
    run = CliRunner().invoke(program_of(lambda config: None, Lists), ["--seeds", *given.split()])
    assert run.exit_code == 2
    assert f"--seeds: '{said}': expected a list with commas, each a whole number" in run.stderr


def no_thread():
    raise RuntimeError("can't start new thread")  # as Python says it under ulimit -v or -u


@pytest.mark.parametrize(
    "lack", [lambda: bytearray(1 << 62), lambda: torch.empty(1 << 56, dtype=torch.uint8), no_thread]
)
def test_a_lack_of_memory_is_one_line(lack, capsys):
    result = CliRunner().invoke(program_of(lambda config: lack(), Nothing), [])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "needs more memory than the process may use" in result.stderr
    with pytest.raises(SystemExit, match="1"):
        console.run(lambda prog_name: lack(), "melcache")
    assert "needs more memory than the process may use" in capsys.readouterr().err


def test_another_error_of_a_library_keeps_its_traceback():
    app = program_of(lambda config: torch.empty(2).reshape(3), Nothing)
    assert isinstance(CliRunner().invoke(app, []).exception, RuntimeError)
