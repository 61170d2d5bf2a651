"""Hooks of the site: pages that stand at the project's root, pages made from the code, and links among all of them.

mkdocs calls `on_config`, `on_files` and `on_page_markdown`; the same text serves a reader of the repository.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import commands
import signatures
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# pages of the site whose text stands at the root of the repository
FROM_ROOT = {
    "index.md": "README.md",
    "FORMAT.md": "FORMAT.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
TREE = re.compile(r"^<!-- tree: (\w+) -->$", re.MULTILINE)
HELP = re.compile(r"`melcache (\w+)(?: --model \w+)? --help`")
ELSEWHERE = re.compile(  # what a page would load, not where it links to
    r"<(?:script|img|iframe|source)[^>]*? src=.?https?:[^ >]*|<link(?![^>]*canonical)[^>]*? href=.?https?:[^ >]*"
)
BLOCK = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Add the pages of commands to the navigation, behind the guides."""
    config.nav.insert(2, {"Commands": commands.navigation()})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages whose text stands at the root, or in the code."""
    made = {page: (ROOT / source).read_text() for page, source in FROM_ROOT.items()} | commands.pages()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in trees of releases, signatures and files, and turn links of the repository into links of the site."""
    name = page.file.src_uri
    text = TREE.sub(lambda found: signatures.tree(ROOT / f"extract/datasets/{found[1]}.py"), markdown)
    text = EXAMPLE.sub(lambda found: code(ROOT / found[1]), text)
    text = signatures.filled(text, ROOT)
    text = HELP.sub(lambda found: to_command(found, name), text)
    return LINK.sub(lambda found: linked(found, name), text)


def code(path: Path) -> str:
    """Return a script as a block of code; of a document its first block of Python."""
    text = path.read_text()
    return BLOCK.search(text)[0] if path.suffix == ".md" else f"```python\n{text}```"


def on_post_build(config: Any) -> None:
    """Raise PluginError if a page loads anything from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        if found := ELSEWHERE.search(path.read_text()):
            raise PluginError(f"{path} loads {found[0]}: a reader may have no network")


def to_command(found: re.Match[str], page: str) -> str:
    """Return a call for help as a link to the page that shows the same."""
    goal = commands.HEADS if "--model" in found[0] else f"commands/{found[1]}.md"
    return f"[{found[0]}]({relative(goal, page)})"


def relative(goal: str, page: str) -> str:
    """Return a page of the site as another one links to it."""
    return posixpath.relpath(goal, posixpath.dirname(page) or ".")


def linked(found: re.Match[str], page: str) -> str:
    """Return a link of the repository as one of the site; what is no page of it is named without a link."""
    words, target, anchor = found[1], found[2], found[3] or ""
    source = FROM_ROOT.get(page) or f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    at_root = {path: name for name, path in FROM_ROOT.items()}
    if path in at_root:
        goal = at_root[path]
    elif path.startswith("docs/"):
        goal = path.removeprefix("docs/")
    else:
        return words if "`" in words or words == path else f"{words} (`{path}`)"
    return f"[{words}]({relative(goal, page)}{anchor})"
