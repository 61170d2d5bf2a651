"""Text of strangers: no terminal, Markdown, shell or make acts upon it, and no print goes around the functions."""

import ast
import functools
import json
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cache import manifests
from cache.cli import app
from cache.edges import EDGES
from cache.sharing import card
from common import console, output
from common.foreign import make, markdown, printable, printable_lines, shell
from tests.worlds import synthetic_cache

ROOT = Path(__file__).parents[2]
FOLDERS = ("common", "cache", "extract", "link", "report", "train", "torture")
ACTS = "\x1b]0;x\x07\x1b[2J \x9b31m \u202eevil\u2066 \u200f a\nerror: b\r\x08 \x7f \u2028 \udce9 \u00a0z"
HOSTILE = (
    "x; touch y #", "$(touch y)", "`touch y`", "'; touch y; '", '"$HOME"', "a b", "--replace", "-x", "~root", "{a,b}",
    "*", "!x", "a\\b", "$$(info x)", "${HOME}", "é", "",
)  # fmt: skip


def test_a_terminal_gets_one_line_without_what_it_acts_upon():
    shown = printable(ACTS)
    assert shown.isprintable() and "evil" in shown and "error: b" in shown
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)
    assert printable("Zürich 東京\u3000駅") == "Zürich 東京 駅"
    assert printable_lines("a\x1bb\nc") == "a\ufffdb\nc"


@pytest.mark.parametrize("word", HOSTILE)
def test_a_shell_takes_a_word_for_itself(word, tmp_path):
    done = subprocess.run(
        ["sh", "-c", f"printf %s {shell(word)}"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.removeprefix("./" if word.startswith("-") else "") == word
    assert list(tmp_path.iterdir()) == [] and not shell(word).startswith("-")


@pytest.mark.parametrize("value", [value for value in HOSTILE if value])
def test_make_takes_a_value_for_itself(value, tmp_path):
    (tmp_path / "Makefile").write_text(f"TAKES_show := DATASET\ninclude {ROOT}/Makefile\nshow:\n\t@printenv DATASET\n")
    command = f"make show {make('DATASET', value)}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.stdout == f"{value}\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


SIGNS = (
    "<script>alert(1)</script>", "<img src=x onerror=y>", "[text](javascript:x)", "![p](http://x/p.png)",
    "**b** _i_ `c`", "a | b", "&#x202e;", "&lt;b&gt;", "~~s~~", "$x$", "# h", "\\", "<https://x>", "__init__",
    "a_b", "*", "]", "![",
)  # fmt: skip
NAME = " ".join(SIGNS) + " ; touch y #"
TYPES = {"inline", "text", "paragraph_open", "paragraph_close"}


def markdown_reader():
    return (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    )


@pytest.mark.parametrize("text", SIGNS)
def test_markdown_shows_text_as_it_is(text):
    tokens = markdown_reader().parse(f"said: {markdown(text)} end")
    assert {token.type for token in tokens} <= TYPES
    kinds = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in kinds} <= {"text"}, kinds
    assert "".join(child.content for child in kinds) == f"said: {text} end"
    assert "\n" not in markdown(f"{text}\n\n{text}")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cache of a stranger whose every free text is made of signs."""
    folder = synthetic_cache(tmp_path_factory.mktemp("hostile") / "toy")
    found, text = manifests.load(folder).as_json(), NAME
    found["dataset"] |= {"name": text, "licence": text, "source": text}
    found["warnings"], found["coverage"] = [text], {text: 1}
    found["splits"] = {f"{name}{text}": count for name, count in found["splits"].items()}
    found["provenance"]["made"] = text
    part = found["parts"]["entity.text"]
    part["recipe"]["encoder"] = {"encoder": f"{text}\n# x\n", "weights": f"{text}\n"}
    part["fingerprint"] = manifests.fingerprint.digest({"recipe": part["recipe"], "inputs": part["inputs"]})
    sealed = manifests.seal(found)
    (folder / "manifest.json").write_bytes(manifests.written(sealed))
    return folder


def test_a_card_of_strange_texts_is_made_of_our_own_markdown(hostile):
    page = card.page(manifests.load(hostile)).partition("-->\n")[2]
    tokens = markdown_reader().parse(page)
    assert {child.type for token in tokens for child in token.children or ()} == {"text", "code_inline"}
    kinds = {token.type.partition("_")[0] for token in tokens}
    assert kinds == set("heading paragraph blockquote table thead tbody tr th td inline fence".split())
    assert "<script" not in page and "<img" not in page
    shown = ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"]
    assert f"{NAME}: features for multimodal entity linking" in shown and f"warning: {NAME}" in shown and NAME in shown


def test_commands_print_a_strange_cache_without_acting(hostile, monkeypatch):
    monkeypatch.setattr(
        "cache.checks.hdf5_gate.problems", lambda folder, found, shards: ((s.file, ACTS) for s in shards)
    )
    (hostile / "\x1b[2J\nok.h5").touch()
    for command in ("info", "card", "verify", "gc"):
        done = CliRunner().invoke(app, [command, str(hostile)])
        assert done.exit_code == (command == "verify"), done.output
        assert all(line.isprintable() for line in done.output.splitlines())
    assert (
        json.loads(CliRunner().invoke(app, ["info", str(hostile), "--json"]).stdout)
        == manifests.load(hostile).as_json()
    )


def test_progress_and_errors_are_lines_of_their_own(capsys):
    output.say(f"warning: {ACTS}")
    console.complain(f"cannot {ACTS}")
    console.show(f"a\n{printable(ACTS)}")
    console.show_json({"a": ACTS})
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 2 and all(line.isprintable() for line in told.err.splitlines())
    assert told.out.splitlines()[2] == "{" and told.out.isascii() is False
    assert json.loads("\n".join(told.out.splitlines()[2:])) == {"a": ACTS}
    assert all(line.isprintable() for line in told.out.splitlines())


def test_tables_of_a_strange_run_folder_have_no_more_lines_than_others(tmp_path):
    from train.inspecting import explain, slices

    def lines(text):
        layers = [dict.fromkeys(EDGES, 0.5) | {"image_to_image": None}]
        of = {"mentions": 3, **{moment: dict.fromkeys(slices.SHOWN, 0.5) for moment in ("mean", "std")}}
        told = slices.show(
            dict.fromkeys(slices.KNOWN, text)
            | {"split": dict.fromkeys(("digest", "known", "valid_from"), text)}
            | {"seeds": 2, "warnings": [text], "slices": {"mention type": {text: of}}, "left_out": {}}
        )
        told += "\n" + explain.show(
            {"mention": text, "surface": text, "labeled": True, "split": ["test"], "seed": 0, "run": text}
            | {"candidates": [{"id": text, "name": text, "gold": True, "score": 1.0, "layers": layers}]}
        )
        return told.split("\n")

    strange = lines(ACTS)
    assert len(strange) == len(lines("plain")) and all(line.isprintable() for line in strange)


def test_a_page_of_strange_results_is_made_of_our_own_markdown():
    from train.studies import tables

    section = tables.Section((NAME, "top1"), ((NAME, "65.5 ± 0.8"), ("drin_authors", "-")))
    tokens = markdown_reader().parse(tables.as_markdown(NAME, [section], [NAME, ACTS]))
    assert {child.type for token in tokens for child in token.children or ()} == {"text"}
    assert [token.children[0].content for token in tokens if token.type == "inline"].count(NAME) == 4
    assert sum(token.type == "list_item_open" for token in tokens) == 2
    assert markdown("drin_authors") == "drin_authors"  # as our own tables show it


# --- what goes around them

PRINTS = re.compile(r"\b(print|pprint|echo|secho|print_exc|basicConfig|excepthook|tqdm|stdout|stderr|__std\w+)\b")
COMMANDS = re.compile(r"\b(melcache|make|python|hf|aws|cp) ")
WRITERS = {"print", "pprint", "echo", "secho", "print_exc", "basicConfig", "excepthook"}
STREAMS = {("sys", name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")} | {("tqdm", "write")}
EXEMPT = {
    "cache/checks/hdf5_gate.py": {"print"},  # a child that answers its parent through a pipe
    "common/console.py": {"sys.stdout", "sys.stderr"},
    "common/output.py": {"tqdm.write"},
}
NAMES = (
    "info verify push pull card sign synth diff gc export import extract describe train compare ablate sweep costs "
    "doctor explain slices predict evaluate report link serve"
)
COMMAND = re.compile(
    rf"(?:^|[\s:(`])(melcache ({NAMES.replace(' ', '|')})|make (extract|train|describe)|python -m \w+|hf repos|aws s3|"
    r"cp) [^.:;)`]*$"
)


@functools.cache
def nodes(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def about(source: str, words: re.Pattern) -> list[ast.AST]:
    """The nodes of a source that has one of the words: most have none, and parsing takes its time."""
    return nodes(source) if words.search(source) else []


def prints(source: str) -> set[str]:
    """What a module prints with, other than common.console and common.output."""
    found = set()
    for node in about(source, PRINTS):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in STREAMS or node.attr in WRITERS:
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WRITERS:
            found.add(node.func.id)
    return found


def unquoted(source: str) -> list[str]:
    """What is put into the commands that a module suggests, without `shell` or `make`."""
    found = []
    for node in about(source, COMMANDS):
        said = ""
        for value in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.Constant):
                said += value.value
                continue
            if COMMAND.search(said) and not _is_quoted(value.value):
                found.append(ast.unparse(value.value))
            said += "x"
    return found


def _is_quoted(value: ast.expr) -> bool:
    ours = isinstance(value, ast.BinOp) and isinstance(value.left, ast.Constant)  # a text of ours, or none
    return ours or (isinstance(value, ast.Call) and ast.unparse(value.func) in ("shell", "make"))


def modules():
    return {str(path.relative_to(ROOT)): path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}


def test_nothing_is_printed_around_the_functions():
    found = {name: prints(path.read_text()) - EXEMPT.get(name, set()) for name, path in modules().items()}
    assert len(found) > 100 and {name: what for name, what in found.items() if what} == {}


def test_the_commands_that_are_looked_for_are_all_of_melcaches():
    from melcache import cli

    assert set(NAMES.split()) == {command.name for command in cli.COMMANDS}


def test_every_suggested_command_is_quoted():
    found = {name: unquoted(path.read_text()) for name, path in modules().items()}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "print(x)", "typer.echo(x)", "sys.stdout.write(x)", "print(x, file=sys.stderr)", "tqdm.write(x)",
        "out = sys.stdout", "json.dump(x, sys.stdout)", "pprint(x)",
    ],
)  # fmt: skip
def test_a_planted_print_is_found(source):
    assert prints(source)


@pytest.mark.parametrize(
    "source",
    [
        'f"Run: melcache verify {path}"', 'f"{a}. Run: melcache pull {shell(name)} {url} --id {x}"',
        'f"Make it with: make extract DATASET={name}"', 'f"melcache extract --dataset {name}"',
    ],
)  # fmt: skip
def test_a_planted_command_is_found(source):
    assert unquoted(source) and not unquoted('f"{a} melcache verify {shell(a)}. {b}"')
