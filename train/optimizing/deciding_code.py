"""The code that decides a run's numbers, as a hash: numbers of other code are other numbers."""

import ast
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
# modules and rooms that decide the numbers of any run, beside the rooms of its head (heads_of);
# tests/train/test_code.py compares them with what training imports
DECIDING = (
    "cache/edges.py",
    "cache/names.py",
    "cache/quantized.py",
    "cache/reader/__init__.py",
    "cache/reader/shard_column.py",
    "cache/reader/strings.py",
    "cache/schema.py",
    "common/devices.py",
    "common/records.py",
    "train/config/__init__.py",
    "train/data",
    "train/data/features",
    "train/processes.py",
    "train/evaluating",
    "train/heads",
    "train/layers",
    "train/loop.py",
    "train/optimizing",
    "train/prepare.py",
    "train/run.py",
)
# of rooms that decide: what is published of a head, its presets (knobs, which identify a run), and the list of heads
TOLD = ("entry.py", "presets.py", "registry.py")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def digest(*more: Path, network: str = "") -> str:
    """Return a hash of torch's version, of the code that decides numbers, of `more` files, and of a head's `network`.

    A mended table or plot changes none, nor does another head, a comment, a docstring or the help of a knob.
    """
    found = hashlib.sha256(f"{torch.__version__}{network}".encode())
    files = [*(path for name in DECIDING for path in sources(ROOT / name)), *more]
    for path in (*files, *heads_of(network, files)):
        found.update(_read(path.read_bytes())[0])
    return found.hexdigest()[:16]


def heads_of(network: str, files: Sequence[Path]) -> list[Path]:
    """Return the files of the heads that a network ("train.heads.drin.model:Drin") and `files` are built of."""
    rooms: dict[str, list[Path]] = {}
    left = [network.partition(":")[0], *(name for path in files for name in _read(path.read_bytes())[1])]
    while left:
        package, _, below = left.pop().partition("train.heads.")
        room = below.partition(".")[0]
        if room and not package and room not in rooms and (folder := ROOT / "train/heads" / room).is_dir():
            rooms[room] = sources(folder)
            left += [name for path in rooms[room] for name in _read(path.read_bytes())[1]]
    return [path for room in sorted(rooms) for path in rooms[room]]


def sources(path: Path) -> list[Path]:
    """Return the source files of a module, or those of a room that decide numbers."""
    return [path] if path.suffix == ".py" else sorted(file for file in path.glob("*.py") if file.name not in TOLD)


@functools.cache
def _read(source: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a source without comments, docstrings and what its knobs say beside their defaults; and what it imports.

    That is the names of modules, and of what may be modules.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "knob":
            node.args, node.keywords = node.args[:1], []
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree).encode(), tuple(_imported(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
