"""What a run's code is: each module that training imports decides numbers, or is named here as one that does not."""

import ast
import shutil

import pytest
import torch

from train import run
from train.heads import registry
from train.optimizing import deciding_code

# imported by training, but no number of a run depends on them
SILENT = {
    "cache",
    "cache.bounds",
    "cache.fingerprint",
    "cache.kinds",  # which columns a part has; what a head reads of them is the schema's
    "cache.kinds.columns",
    "cache.kinds.entities",
    "cache.kinds.mentions",
    "cache.kinds.pairs",
    "cache.kinds.part",
    "cache.kinds.tokens",
    "cache.manifests",
    "cache.manifests.checks",
    "cache.manifests.entries",
    "cache.manifests.fields",
    "cache.partial_cache",
    "cache.reader.missing_columns",
    "cache.store",
    "cache.store.lacking",
    "cache.store.temporary_names",
    "common.by_make",
    "common.console",
    "common.errors",
    "common.foreign",
    "common.memory",
    "common.options",
    "common.output",
    "common.paths",
    "common.places",
    "common.threads",
    "common.words",
    "train",
    "train.judging.calibration",
    "train.judging.confidence",
    "train.judging.stored_scores",
    "train.checks",
    *(f"train.heads.{room}.entry" for room in registry.ROOMS),
    "train.heads.entry",
    "train.heads.presets",
    "train.heads.registry",
    "train.rehearsal",
    "train.results",
    "train.run_folder.run_files",
    "train.run_folder.run_schema",
}


def tree_of(module):
    base = deciding_code.ROOT / module.replace(".", "/")
    path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
    return ast.parse(path.read_text())


def imported(module):
    """Names of modules, and of what may be modules, that a module of ours imports."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def is_module(name):
    base = deciding_code.ROOT / name.replace(".", "/")
    return name.split(".")[0] in ("cache", "common", "train") and (
        base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()
    )


def reached(*modules):
    found, left = set(), list(modules)
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += filter(is_module, imported(name))
    return found


def test_every_module_that_training_imports_decides_numbers_or_is_known_not_to():
    deciding = {
        ".".join(path.relative_to(deciding_code.ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in (*deciding_code.DECIDING, *(f"train/heads/{room}" for room in registry.ROOMS))
        for path in deciding_code.sources(deciding_code.ROOT / name)
    }
    # a head's entry and its network are imported when they are asked for
    rooms = [f"train.heads.{room}.{file}" for room in registry.ROOMS for file in ("entry", "model")]
    found = reached("train.loop", *filter(is_module, rooms))
    assert len(found) > 40
    assert {name for name in found - deciding if len(tree_of(name).body) > 1} == SILENT  # but for docstrings
    assert not deciding & SILENT


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (*deciding_code.DECIDING, "train/studies", "train/results.py"):
        path = tmp_path / name if name.endswith(".py") else tmp_path / name / "any.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(deciding_code, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", deciding_code.DECIDING)
def test_code_that_decides_numbers_is_other_code(tree, name):
    before = deciding_code.digest()
    path = tree / name if name.endswith(".py") else tree / name / "any.py"
    path.write_text("mended")
    assert deciding_code.digest() != before


def test_another_torch_is_other_code_and_a_mended_table_is_not(tree, monkeypatch):
    before = deciding_code.digest()
    for name in ("train/studies/any.py", "train/results.py", "train/heads/drin/entry.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("mended")
    assert deciding_code.digest() == before
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert deciding_code.digest() != before


def test_a_head_is_other_code_where_its_room_or_one_that_it_builds_on_is(tmp_path, monkeypatch):
    shutil.copytree(deciding_code.ROOT / "train", tmp_path / "train", ignore=shutil.ignore_patterns("__pycache__"))
    for name in deciding_code.DECIDING:
        if not name.startswith("train"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(deciding_code.ROOT / name, tmp_path / name)
    monkeypatch.setattr(deciding_code, "ROOT", tmp_path)
    before = {model: run.code_of(model) for model in registry.OURS}
    for room, built in (("drin", {"drin", "drin_authors"}), ("ghmfc", {"ghmfc"}), ("dwe", {"dwe", "dwe_authors"})):
        path = tmp_path / "train/heads" / room / "model.py"
        kept = path.read_text()
        path.write_text(f"{kept}MENDED = True\n")
        assert {model for model, code in before.items() if run.code_of(model) != code} == built
        path.write_text(kept)
    (tmp_path / "train/heads/new").mkdir()
    (tmp_path / "train/heads/new/model.py").write_text("ADDED = True\n")
    assert {model: run.code_of(model) for model in registry.OURS} == before


CODE = '''"""A module."""

WIDTH = 3


class Config:
    """Options."""

    width: int = knob(768, "how wide", panel="drin")  # D


def double(x):
    """Return twice."""
    return 2 * x
'''


@pytest.mark.parametrize(
    ("text", "other", "decides"),
    [
        ("A module.", "The module.", False),
        ("Options.", "All options.", False),
        ("how wide", "D, the width", False),
        ('panel="drin"', "machine=True", False),
        ("# D", "# the width", False),
        ("twice.", "x, twice.", False),
        ("2 * x", "(2 * x)", False),
        ("768", "512", True),
        ("WIDTH = 3", "WIDTH = 4", True),
        ("2 * x", "3 * x", True),
        ("knob(768", "other(768", True),
    ],
)
def test_comments_docstrings_and_help_decide_no_number(tree, text, other, decides):
    assert text in CODE
    (tree / "train/loop.py").write_text(CODE)
    before = deciding_code.digest()
    (tree / "train/loop.py").write_text(CODE.replace(text, other, 1))
    assert (deciding_code.digest() != before) == decides
