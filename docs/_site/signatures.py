"""What the code says of itself, read without running it: signatures with their docstrings, and trees of releases.

A line `::: cache.reader.Reader` in a page becomes the class's signature, its docstring and its public methods.
"""

import ast
import re
from pathlib import Path
from textwrap import dedent

WANTED = re.compile(r"^::: ([\w.]+)(?: as ([\w.]+))?$", re.MULTILINE)
Definition = ast.FunctionDef | ast.ClassDef


def filled(text: str, root: Path) -> str:
    """Return a page with each `:::` line replaced.  Raises KeyError for what no module defines."""
    return WANTED.sub(lambda asked: "\n".join(described(root, asked[1], asked[2] or asked[1])), text)


def described(root: Path, path: str, shown: str) -> list[str]:
    """Return the lines of a function, or of a class and its public methods."""
    module, _, name = path.rpartition(".")
    found = definition(source_of(root, module), name)
    lines = entry(found, shown, "###")
    for member in found.body if isinstance(found, ast.ClassDef) else []:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_") and ast.get_docstring(member):
            lines += entry(member, f"{shown.rpartition('.')[2]}.{member.name}", "####")
    return lines


def source_of(root: Path, module: str) -> Path:
    """Return the file of a module or a package."""
    folder = root / module.replace(".", "/")
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def definition(path: Path, name: str) -> Definition:
    """Return a class or function that stands at the top of a file.  Raises KeyError."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    raise KeyError(f"{path} defines no {name}")


def entry(node: Definition, shown: str, level: str) -> list[str]:
    """Return heading, signature and docstring."""
    about = ast.get_docstring(node) or ""
    return [f"{level} `{shown}`", "", "```python", signature(node), "```", "", paragraphs(about), ""]


def signature(node: Definition) -> str:
    """Return how a function is called, or a class is made: of a dataclass its fields, else __init__."""
    if isinstance(node, ast.FunctionDef):
        words = [ast.unparse(one) for one in node.decorator_list if ast.unparse(one) in ("property", "classmethod")]
        made = f"{node.name}({arguments(node)}) -> {ast.unparse(node.returns) if node.returns else 'None'}"
        return "\n".join([*(f"@{word}" for word in words), made.removesuffix(" -> None")])
    makers = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    if makers:
        return f"{node.name}({arguments(makers[0])})"
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    lines = [f"    {one.target.id}: {ast.unparse(one.annotation)}{default(one)}" for one in fields]
    return "\n".join([f"class {node.name}:", *lines]) if lines else f"class {node.name}"


def arguments(node: ast.FunctionDef) -> str:
    """Return the arguments that a caller gives."""
    return ", ".join(part for part in ast.unparse(node.args).split(", ") if part not in ("self", "cls"))


def default(field: ast.AnnAssign) -> str:
    """Return the default of a dataclass's field; of a knob its first argument."""
    value = field.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "knob":
        value = value.args[0]
    return "" if value is None or ast.unparse(value) == "MISSING" else f" = {ast.unparse(value)}"


def paragraphs(docstring: str) -> str:
    """Return a docstring as Markdown: indented lines are code, `<` is no tag."""
    return docstring.replace("<", "&lt;")


def tree(path: Path) -> str:
    """Return an adapter's docstring: what it reads as text, the folders it expects as a block of code."""
    about = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = []
    for block in about.split("\n\n")[1:]:
        is_tree = block.startswith("    ") or re.match(r"data/\w+/", block)
        lines += [f"```text\n{dedent(block)}\n```" if is_tree else block.replace("<", "&lt;"), ""]
    return "\n".join(lines)
