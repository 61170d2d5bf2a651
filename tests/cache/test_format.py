"""FORMAT.md and README.md say what the code does.

`python tests/cache/test_format.py --write` renews the table of columns.
"""

import re
import sys
from pathlib import Path

from cache.kinds import IMAGE_STATUS
from cache.schema import PARTS

ROOT = Path(__file__).parents[2]
FORMAT = ROOT / "FORMAT.md"
BLOCK = re.compile(r"(<!-- columns:[^\n]*-->\n).*?(<!-- /columns -->)", re.DOTALL)


def columns() -> str:
    """The table of all columns as Markdown."""
    lines = ["| part | column | shape after the row | type | holds |", "|---|---|---|---|---|"]
    for part, spec in PARTS.items():
        for name, column in spec.items():
            shape = " x ".join({"*": "32"}.get(axis, axis) for axis in column.axes)
            kind = column.dtype.strip("<|")
            lines.append(f"| `{part}` | `{name}` | {shape} | {kind} | {column.holds} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """FORMAT.md with the table and the reason codes of the schema."""
    text = BLOCK.sub(lambda found: found[1] + columns() + found[2], text)
    codes = ", ".join(f"{code} {name}" for code, name in enumerate(IMAGE_STATUS))
    return re.sub(
        r"(is an index into: ).*?(\. Such a row)", lambda found: found[1] + codes + found[2], text, flags=re.DOTALL
    )


def test_format_document_lists_every_column_and_reason():
    text = FORMAT.read_text()
    assert BLOCK.search(text) is not None
    assert text == renewed(text)


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named >= {"demo", "test", "extract", "train"}
    assert named <= targets
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(phony) >= {"setup", "demo", "extract", "train", "test", "lint", "bench", "clean"}


def test_lock_file_names_no_download_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert lock.count("--hash=sha256:") > 100


if __name__ == "__main__" and "--write" in sys.argv:
    FORMAT.write_text(renewed(FORMAT.read_text()))
