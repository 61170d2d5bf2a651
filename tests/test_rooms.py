"""Rooms: few files in each, imports only downward, and modules go by their own names."""

import ast
import re
from collections import Counter, defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "common", "cache", "extract", "link", "report", "serve", "train", "melcache", "torture", "workers")
MOST = 12  # Python files in a folder


def modules():
    """Yield name, path and tree of every module of ours."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path, ast.parse(path.read_text())


def room(name, packages):
    """A folder without folders is a room; files beside folders stand for themselves."""
    parent = name.rpartition(".")[0]
    beside_folders = any(other.rpartition(".")[0] == parent for other in packages)
    return name if name in packages or beside_folders else parent


def imports(tree, names):
    """Yield each module of ours that a module imports, and the name that it is given, if it is given another one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full, alias.asname) if full in names else (node.module, None)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, alias.asname) for alias in node.names)


def test_no_folder_holds_more_than_a_reader_takes_in():
    counts = Counter(path.parent for name, path, _ in modules() if not name.startswith("common"))
    assert len(counts) > 20
    assert {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST} == {}


def test_no_room_imports_upward_or_in_a_circle():
    found = list(modules())
    names = {name for name, _, _ in found}
    packages = {name for name, path, _ in found if path.name == "__init__.py"}
    above = defaultdict(set)
    for name, _, tree in found:
        for other, _ in imports(tree, names):
            if other in names and room(other, packages) != room(name, packages):
                above[room(name, packages)].add(room(other, packages))
    assert len(above) > 40
    TopologicalSorter(above).prepare()  # raises CycleError, which names the circle


def test_modules_go_by_their_own_names():
    found = list(modules())
    names = {name for name, _, _ in found}
    renamed = [(name, *given) for name, _, tree in found for given in imports(tree, names) if given[1]]
    assert len(renamed) > 20  # numpy as np, for one
    assert [(name, other, new) for name, other, new in renamed if other.partition(".")[0] in PACKAGES] == []


# what every command has
UNLISTED = {"__init__", "__main__", "cli", "command", "config"}


def layout():
    """Each folder of CONTRIBUTING's layout, and what the layout says of it."""
    block = (ROOT / "CONTRIBUTING.md").read_text().partition("is for:\n\n```\n")[2].partition("\n```\n")[0]
    return [(text.partition("/")[0], text.partition("/")[2]) for text in re.split(r"\n(?=\w)", block)]


@pytest.mark.parametrize(("folder", "told"), layout(), ids=[folder for folder, _ in layout()])
def test_the_layout_names_every_room_and_module(folder, told):
    rooms = {
        path.name
        for path in (ROOT / folder).iterdir()
        if path.is_dir() and path.name != "__pycache__" and any(path.glob("*.*"))
    }
    assert set(re.findall(r"(\w+)/", told)) == rooms
    if folder in PACKAGES:
        files = {path.stem for path in (ROOT / folder).glob("*.py")} - UNLISTED
        assert {name for name in files if not re.search(rf"\b{name}\b", told)} == set()


def test_the_layout_names_every_package():
    assert {folder for folder, _ in layout()} == {*PACKAGES, "examples", "tests"}


def test_every_room_says_what_it_is_for():
    assert [name for name, path, tree in modules() if path.name == "__init__.py" and not ast.get_docstring(tree)] == []
