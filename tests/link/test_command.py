"""`melcache link`: JSON for programs, a table for people, one line for mistakes."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from link.cli import COMMANDS
from melcache import cli
from tests.link import world as worlds

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")


@pytest.fixture
def link(world):
    def run(*words, model="drin"):
        options = ["--run", str(world.run(model)), "--device", "cpu", "--release", str(world.release)]
        return CliRunner().invoke(cli.PROGRAM, ["link", *options, *map(str, words)], prog_name="melcache")

    return run


def test_one_mention_for_programs_and_for_people(link, world):
    words = ("--text", "Oslo by night", "--mention", "Oslo", "--image", world.release / "images/green-third.png")
    done = link(*words, "--json", "--top", 3)
    assert done.exit_code == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert found["mention"] == "Oslo" and (found["start"], found["end"]) == (0, 4)
    best = found["candidates"]
    assert len(best) == 3 and best[0]["probability"] >= best[1]["probability"] > 0
    assert set(best[0]["evidence"]) == {"string", "text_to_text", "text_to_image", "image_to_text", "image_to_image"}
    records = {record["id"]: record for record in worlds.entities()}
    assert {c["id"]: (c["name"], c["description"]) for c in best} == {
        c["id"]: (records[c["id"]]["name"], records[c["id"]]["text"]) for c in best
    }
    assert best[0]["picture"].startswith(str(world.release / "images"))
    done = link(*words)
    assert done.stdout.startswith("[Oslo] by night\n") and "i>i" in done.stdout and best[0]["id"] in done.stdout


def test_a_file_of_mentions_keeps_their_ids_and_order(link, world):
    done = link("--data", world.release / "mentions.jsonl", "--json", "--nil-below", 1)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [line["mention"] for line in found] == [record["id"] for record in worlds.mentions()]
    assert [line["known"] for line in found] == [line["mention"] for line in found]
    assert all(line["nil"] for line in found)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((), "nothing to link: give --text"),
        (("--text", "a"), "nothing to link"),
        (("--text", "a b", "--mention", "c"), "'c' does not stand in the text"),
        (("--text", "a b", "--mention", "a", "--data", "x"), "--data is many mentions and --text is of one"),
        (("--text", "a b", "--mention", "a", "--image", "none.png"), "--image none.png cannot be used: missing"),
        (("--text", "a b", "--mention", "a", "--seed", "7"), "--seed 7"),
        (("--text", "a b", "--mention", "a", "--nil-below", "2"), "--nil-below is 2.0"),
        (("--text", "a b", "--mention", "a", "--top", "-1"), "--top is -1"),
        (("--text", "a b", "--mention", "a", "--encoder", "words=x"), "--encoder words: expected one of text, joint"),
        (("--text", "a b", "--mention", "a", "--encoder", "text"), "expected ROLE=VALUE"),
        (("--text", "a b", "--mention", "a", "--encoder-weights", "text=random-full"), "was made with weights"),
        (("--text", "a b", "--mention", "a", "--encoder-weights", "image=nowhere"), "nowhere: no such folder"),
        (("--text", "a b", "--mention", "a", "--entities", "none.jsonl"), "--entities none.jsonl: there is no"),
        (("--text", "a b", "--mention", "a", "--shards", "none"), "No cache for"),
    ],
)
def test_a_mistake_is_one_line(link, words, match, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if "--shards" in words:
        words = (*words, "--dataset", "world")
    done = link(*words)
    assert done.exit_code in (2, 3) and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and match in lines[0], done.stderr


def test_what_needs_no_encoder_is_told_before_one_is_loaded(link, monkeypatch):
    monkeypatch.setattr("link.linker.Linker.load", None)
    assert "does not stand in the text" in link("--text", "a b", "--mention", "c").stderr
    assert "No cache for" in link("--text", "a b", "--mention", "a", "--dataset", "none").stderr


def test_the_example_runs(world, monkeypatch, capsys):
    words = [str(world.run("drin")), "Oslo", str(world.release / "images/green.png")]
    monkeypatch.setattr(sys, "argv", ["link_mentions.py", *words])
    runpy.run_path(str(ROOT / "examples/link_mentions.py"), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Oslo in 'everyone admires Oslo'") and len(said) == 8


def test_help_names_what_a_user_needs():
    [command] = COMMANDS
    done = CliRunner().invoke(cli.PROGRAM, ["link", "--help"], prog_name="melcache")
    assert command.panel in CliRunner().invoke(cli.PROGRAM, ["--help"], prog_name="melcache").stdout
    for option in ("--run", "--text", "--mention", "--image", "--data", "--entities", "--json", "--encoder"):
        assert option in done.stdout
