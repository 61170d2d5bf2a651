"""A name that is nearly one of ours is answered with that one."""

import pytest
from typer.testing import CliRunner

import melcache
from common.errors import CacheError
from common.words import nearest, one_of
from melcache.cli import PROGRAM
from tests.worlds import synthetic_cache


def test_the_nearest_name_is_found_in_any_case_and_none_where_none_is_near():
    assert nearest("drinn", ["bert", "drin"]) == nearest("DRIN", ["drin"]) == " (did you mean drin?)"
    assert nearest("data", ["DATA"]) == " (did you mean DATA?)"
    assert nearest("xyz", ["bert", "drin"]) == nearest("", ["bert"]) == nearest("a", []) == ""
    assert one_of("bret", ["bert", "drin"]) == "bert, drin (did you mean bert?)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("words")
    synthetic_cache(path / "shards/wikimel")
    return path


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("extract --weights random-tiny --dataset wikidivers", "wikidiverse"),
        ("extract --for dwee", "dwe"),
        ("synth new --for grin", "drin"),
        ("pull wikimel shards/wikimel --replace --for drni", "drin"),
        ("train --dataset wikimell", "wikimel"),
        ("info wikimell", "wikimel"),
        ("train --model drinn", "drin"),
        ("train --protocol injectd", "injected"),
        ("train --select top2", "top20"),
        ("train --edges text_to_txt", "text_to_text"),
        ("compare --dataset wikimel --models bert,ghmf", "ghmfc"),
        ("compare --dataset wikimel --models lexical --published wikimell", "wikimel"),
        ("sweep --dataset wikimel --vary layer=1,2", "layers"),
        ("ablate --dataset wikimel --model drinn", "drin"),
    ],
)
def test_options_of_names_say_what_was_meant(words, meant, folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(PROGRAM, words.split())
    assert done.exit_code == 2 and f"(did you mean {meant}?)" in done.stderr, done.output


def test_a_column_that_is_none_is_answered_with_the_nearest(folder):
    with pytest.raises(CacheError, match=r"\(did you mean mention\.text\.span\?\)"):
        melcache.open(folder / "shards/wikimel").column("mention.text.spam")
