"""Regular expressions read what strangers wrote: none takes more steps than a multiple of its text's length."""

import ast
import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from cache import manifests
from cache.remotes import base
from common import foreign
from common.errors import CacheError
from torture.processes import child

ROOT = Path(__file__).parent.parent
FOLDERS = ("cache", "common", "extract", "link", "report", "train")
METHODS = ("match", "fullmatch", "search", "sub", "findall", "finditer", "split")
LENGTH = 20_000  # letters: twice squared, more than ten seconds of a processor; linear, less than a millisecond
MEGABYTE = 1_000_000
SECONDS = 2.0  # of a processor that all hostile texts of an expression may take, which takes a hundredth of it


def expressions():
    """Yield (where, pattern, flags, method) of every regular expression in the code."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        used = methods(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node.func) is not None:
                where, name = f"{path.relative_to(ROOT)}:{node.lineno}", called(node.func)
                flags = re.DOTALL if any(isinstance(a, ast.Attribute) and a.attr == "DOTALL" for a in node.args) else 0
                asked = used.get(assigned(tree, node), {"search"}) if name == "compile" else {name}
                for method in asked:
                    whole = method in ("match", "fullmatch")  # at one place; others look everywhere
                    yield where, literal(node.args[0]), flags, method if whole else "search"


def called(function):
    """The name of a function of module re, None for another."""
    found = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re"
    return function.attr if found and function.attr in (*METHODS, "compile") else None


def assigned(tree, call):
    """The name that a compiled expression gets."""
    names = (n.targets[0] for n in ast.walk(tree) if isinstance(n, ast.Assign) and n.value is call)
    return next((target.id for target in names if isinstance(target, ast.Name)), "")


def methods(tree):
    """By name what compiled expressions are asked in a file."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


def literal(node):
    """The pattern; what is filled in is a digit."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return node.value


def hostile(pattern):
    """Texts that its beginnings match again and again, without an end: each of its signs, and each two of them."""
    text = pattern.decode() if isinstance(pattern, bytes) else pattern
    signs = list(dict.fromkeys([*re.findall(r"[@/:?'\"_.|#<-]", text), "a", "1", "\\"]))
    texts = [sign * LENGTH for sign in signs]
    texts += [(first + second) * (LENGTH // 2) for first in signs for second in signs if first != second]
    texts += ["://" * (LENGTH // 3), "a://" * (LENGTH // 4)]
    return [each.encode() if isinstance(pattern, bytes) else each for each in texts]


def lived(work, seconds=SECONDS):
    """Whether work in a child ends within its seconds of a processor, whatever else the machine does."""

    def limited():
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        work()

    return os.waitpid(child(limited), 0)[1] == 0


def linear(pattern, flags, method, seconds=SECONDS):
    compiled = re.compile(pattern, flags)

    def work():
        for text in hostile(pattern):
            if method == "search":
                for _ in compiled.finditer(text):
                    pass
            else:
                getattr(compiled, method)(text)

    return lived(work, seconds)


def slow(expressions):
    """Where an expression is that is not linear."""
    return [where for where, *expression in expressions if not linear(*expression)]


def test_every_expression_is_linear(small_process):
    found = sorted(set(expressions()), key=str)
    assert len(found) > 20
    assert small_process(slow, found) == []


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(\w+://)[^/\s@]*@", "search"),
        (rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', "search"),
        (r"[!-~]+@[!-~]+\.[!-~]+", "fullmatch"),
    ],
)
def test_an_expression_that_is_not_is_found(pattern, method, small_process):
    assert not small_process(linear, pattern, 0, method, 0.3)


@pytest.mark.parametrize("text", ["a" * MEGABYTE, "://" * (MEGABYTE // 3), "a://b@" * (MEGABYTE // 6), "?@" * MEGABYTE])
def test_a_megabyte_of_an_error_is_scrubbed_into_a_line(text, small_process):
    assert small_process(lived, partial(base.scrubbed, text))
    assert len(base.scrubbed(text)) <= 400


def refuse_quotes():
    with pytest.raises(CacheError, match="is not the JSON that melcache writes"):
        manifests.parse(b'{"a":"' + b'\\"' * (MEGABYTE // 2), "there")


def test_a_megabyte_of_quotes_is_no_manifest(small_process):
    assert small_process(lived, refuse_quotes)


def test_many_signs_in_markdown(small_process):
    assert small_process(lived, partial(foreign.markdown, "*_" * (MEGABYTE // 10)))
