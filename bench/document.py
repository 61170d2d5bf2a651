"""What a benchmark found, as Markdown between the marks of a document: where it was measured, and a table a line."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def machine(device: str) -> str:
    """Say what the figures were measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ": CPU")
    name = f"{len(os.sched_getaffinity(0))} cores of {model.split(':')[1].strip()}"
    if device != "cpu":
        name += f", {torch.cuda.get_device_name()}"
    return f"{name}; Python {platform.python_version()}, torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}"


def commit() -> str:
    """Return the commit, marked if files differ from it."""
    told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def record(path: Path, found: dict[str, Any], marks: str) -> None:
    """Replace the lines between the marks of the document."""
    begin, end = f"<!-- {marks} -->\n", "<!-- end -->\n"
    before, _, rest = path.read_text().partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}{tables(found)}{end}{after}")


def tables(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [f"Machine: {found['machine']}. Commit {found['commit']}.\n"]
    for name, value in found.items():
        if name == "extract":
            lines += [f"**{table}**\n\n{_rows(rows)}" for table, rows in value.items()]
        elif name == "counts":
            lines += map(_counts, value)
        elif name not in ("machine", "commit"):
            lines.append(f"**{name}**\n\n{_rows(value if isinstance(value, list) else [value])}")
    return "\n".join(lines)


def _counts(row: dict[str, Any]) -> str:
    counted = [
        [kind, f"{value['flops'] / 1e9:.1f}", f"{value['bytes'] / 1e9:.2f}"] for kind, value in row["counted"].items()
    ]
    operators = [[name, calls, f"{took:.1f}"] for name, calls, took in row["operators"]]
    return (
        f"**one step, {row['cache']}**\n\n"
        + _markdown(["model", "GFLOP of matrix products", "GB read and written"], counted)
        + "\n"
        + _markdown(["operator", "calls", "self ms"], operators)
    )


def _rows(rows: list[dict[str, Any]]) -> str:
    return _markdown(list(rows[0]), [list(row.values()) for row in rows])


def _markdown(header: list[str], rows: list[list[Any]]) -> str:
    body = ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(body) + "\n"
