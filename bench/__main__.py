"""`make bench`: every line of docs/benchmarks.md, measured in paired runs; --record writes them there."""

import argparse
from pathlib import Path
from typing import Any

from bench.document import commit, machine, record
from bench.lines import LINES, WITHOUT_CACHES, WORK
from cache.writing.synth import SHAPES, Synthetic, write
from common import console
from common.output import say


def main() -> None:
    """Measure what is asked for; print JSON, and with --record write it into the document between its marks."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", choices=sorted(LINES), action="append", help="lines to measure (default: all)")
    parser.add_argument("--threads", default="1,2", help="numbers of CPU threads for the steps")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--record", type=Path, help="document whose lines between <!-- bench --> marks are replaced")
    given = parser.parse_args()
    if given.only and given.record and given.only != ["extract"]:
        parser.error("--record writes all lines: leave --only out, or let it be extract, which has marks of its own")
    wanted = given.only or [name for name in LINES if name != "extract"]
    caches = {name: full_size(name) for name in SHAPES if set(wanted) - WITHOUT_CACHES}
    found: dict[str, Any] = {"machine": machine(given.device), "commit": commit()}
    threads = [int(count) for count in given.threads.split(",")]
    for name in wanted:
        say(f"bench: {name}")
        found[name] = LINES[name](caches, threads, given.device)
    if given.record is not None:
        record(given.record, found, "extract" if given.only else "bench")
    console.show_json(found)


def full_size(name: str) -> Path:
    """Return a synthetic cache of a release's shape; it is made once."""
    path = WORK / name
    if not (path / "manifest.json").exists():
        (train, valid, test), entities, candidates = SHAPES[name]
        total = train + valid + test
        shares = (train / total, valid / total, test / total)
        write(path, Synthetic(total, entities, candidates, 0.5, 0, shares=shares))
    return path


if __name__ == "__main__":
    console.run(lambda prog_name: main(), "python -m bench")
