"""Documents: links that lead somewhere, a README that welcomes, and the hooks that make the site of them."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULE = '''
class Box:
    """A box.  x < y."""

    def __init__(self, size: int = 3) -> None: ...
    @property
    def full(self) -> bool:
        """Whether it is."""
    def _hidden(self): ...
    def bare(self): ...

def f(a: int, *, b: str = "x") -> list[int]:
    """F."""
'''
LINK = re.compile(r"\]\(([^)#\s]+)?(#[^)\s]+)?\)")


@pytest.fixture(scope="module")
def signatures():
    """docs/_site/signatures.py, which reads code without running it."""
    spec = importlib.util.spec_from_file_location("signatures", ROOT / "docs/_site/signatures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    assert "signatures" not in sys.modules


def anchors(path):
    """The anchors of a document's headings, as GitHub and mkdocs name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(document):
    for target, anchor in LINK.findall(document.read_text()):
        if ":" in target:
            continue
        goal = document.parent / target if target else document
        assert goal.exists(), target
        assert not anchor or anchor[1:] in anchors(goal), f"{target}{anchor}"


def test_readme_is_a_welcome():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 120
    assert set(re.findall(r"docs/guides/([\w-]+)\.md", text)) == {p.stem for p in (ROOT / "docs/guides").glob("*.md")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_benchmarks_that_are_named_exist(document):
    for name in re.findall(r"(?<![\w/])bench[./]\w+(?:[./]\w+)*", document.read_text()):
        path = ROOT / name.removesuffix(".py").replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages | {"index.md", "FORMAT.md", "CONTRIBUTING.md", "CHANGELOG.md"} == listed


def test_get_the_data_shows_the_tree_of_every_adapter(signatures):
    text = (ROOT / "docs/guides/get-the-data.md").read_text()
    named = set(re.findall(r"<!-- tree: (\w+) -->", text))
    adapters = {path.stem for path in (ROOT / "extract/datasets").glob("*.py")} - {"__init__", "demo", "jsonl"}
    assert named == adapters
    for name in named:
        shown = signatures.tree(ROOT / f"extract/datasets/{name}.py")
        assert re.search(r"^```text\ndata/", shown, re.MULTILINE), name


def test_signatures_are_those_of_the_code(signatures, tmp_path):
    (tmp_path / "a.py").write_text(MODULE)
    page = signatures.filled("::: a.Box as m.Box\n\n::: a.f\n", tmp_path)
    assert page.startswith("### `m.Box`\n\n```python\nBox(size: int=3)\n```\n\nA box.  x &lt; y.")
    assert "#### `Box.full`" in page and "hidden" not in page and "bare" not in page
    assert "f(a: int, *, b: str='x') -> list[int]" in page
    with pytest.raises(KeyError, match="defines no g"):
        signatures.filled("::: a.g\n", tmp_path)
