"""docs/reliability.md: what each experiment found when it last ran, a row each; a run replaces its own rows only."""

import datetime
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.output import duration
from torture.registry import EXPERIMENTS
from torture.tiny_cache import Result

HEAD = """# Reliability

Written by `make torture RECORD=docs/reliability.md`, not by hand: a row stays until its experiment is run again with
`ONLY=name` or without. What an experiment does stands in its module under `torture/` (`torture/registry.py` lists
them); `make test` runs all but `ext4` and `clusters` small, on every change. Promises 7 (no stale mix) and 8 for texts
are proved by tests/extract/test_stale.py and tests/extract/test_bad_input.py; tests/torture/test_sabotage.py and
tests/torture/test_clusters.py show for each experiment that it can fail.

A case is one kill, one state of a folder after a power cut, one damaged file, one failed call, and so on; `of` is how
many the large run asks for, so a row whose cases are fewer was run in part. Seconds are of a processor.

"""
HEADER = ("experiment", "promise", "cases", "of", "counted", "failures", "seconds", "date", "commit", "seed")


@dataclass(frozen=True)
class Row:
    """One experiment's outcome."""

    name: str
    result: Result
    seconds: float
    seed: int

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of HEADER."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.result.counts.items())
        large = EXPERIMENTS[self.name].large
        return (
            self.name,
            EXPERIMENTS[self.name].promise,
            f"{self.result.tried:,}",
            f"{large:,}" if large else "all",
            counts,
            str(len(self.result.failures)),
            f"{self.seconds:,.0f}",
            str(datetime.date.today()),
            _commit(),
            str(self.seed),
        )


def write(path: Path, rows: list[Row]) -> None:
    """Put rows into the document, in the place of older ones of the same experiments."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = {name: line for line in held.splitlines() if (name := line.split(" | ")[0].strip("| ")) in EXPERIMENTS}
    lines |= {row.name: _line(row.cells()) for row in rows}
    table = [_line(HEADER), _line(("---",) * len(HEADER)), *(lines[name] for name in EXPERIMENTS if name in lines)]
    machine = (
        f"\n\nThe last run was with Python {platform.python_version()} on {platform.system()} {platform.machine()}.\n"
    )
    path.write_text(HEAD + "\n".join(table) + machine, encoding="utf-8")


def shown(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return the rows for a terminal."""
    return [(cells[0], cells[2], cells[4], cells[5], duration(row.seconds)) for row in rows for cells in (row.cells(),)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", cell.replace("|", "/")) for cell in cells) + " |"


def _commit() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    there = [line for line in changed.stdout.splitlines() if not line.endswith("docs/reliability.md")]
    return f"{commit} and changes" if there else commit
