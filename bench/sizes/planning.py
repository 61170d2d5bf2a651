"""Planning by the number of entities: `python -m bench.sizes.planning 10000 100000 1000000 6000000`, as a table.

A release of texts is generated: names and descriptions of Zipf's words, few mentions, which have lists. Each is planned
in a process of its own, as `melcache extract --plan` does up to the forecast. Memory is the process's largest, with the
libraries that it loads. With `--names` mentions are more, of other such names, and lists of 100 are made by name.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import console

ROOT = Path(__file__).parents[2]
MENTIONS, LISTED, WORDS = 1_000, 10, 50_000
NAMED = 2_000  # mentions without lists
LENGTHS = (1, 4), (3, 15)  # words of a name, of a text
BLOCK = 1 << 16
SHARD_ROWS = 8_192  # ranges of 2,048 would be more shards than a manifest lists


def main() -> None:
    """Plan a release of each size that is given, or one that is made (a folder); print a table, or its line as JSON."""
    named = sys.argv[1:2] == ["--names"]
    sizes = sys.argv[1 + named :] or ["10000", "100000", "1000000"]
    if not sizes[0].isdecimal():
        console.show_json(measure(Path(sizes[0])))
        return
    folder = ROOT / "runs" / "bench"
    made = (release(folder / f"planning-{size}{'-names' * named}", int(size), named=named) for size in sizes)
    found = [_apart(one) for one in made]
    rows = [[f"{value:,}" if isinstance(value, int) else str(value) for value in one.values()] for one in found]
    for row in [list(found[0]), ["---"] * len(found[0]), *rows]:
        console.show(f"| {' | '.join(row)} |")


def release(folder: Path, entities: int, *, named: bool = False) -> Path:
    """Write a release of so many entities, once; return its folder.  The mentions of a `named` one have no lists."""
    if not (folder / "mentions.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        words = np.array([_word(number) for number in rng.permutation(WORDS)])
        with (folder / "entities.jsonl").open("w") as file:
            for begin in range(0, entities, BLOCK):
                file.writelines(_lines(rng, words, begin, min(BLOCK, entities - begin)))
        (folder / "mentions.jsonl").write_text("".join(_mentions(rng, words, entities, named)))
    return folder


def measure(folder: Path) -> dict[str, Any]:
    """Plan a release in this process; return seconds and memory, of the whole and by phase."""
    from extract import preparation
    from extract.beginning import begin
    from extract.config import ExtractConfig
    from extract.planning import candidate_lists, row_order, rows, shards

    phases = Phases()
    config = ExtractConfig(
        "jsonl", folder, shards=folder / "shards", weights="random-tiny", device="cpu", shard_rows=SHARD_ROWS, plan=True
    )
    begun = phases.timed("reading", begin)(config)
    row_order.arrange = phases.timed("order", row_order.arrange)
    candidate_lists.make = phases.timed("lists", candidate_lists.make)
    rows.Rows.hashed = phases.timed("pictures", rows.Rows.hashed)  # type: ignore[method-assign]
    shards.Owners = phases.timed("owners", shards.Owners)  # type: ignore[misc, assignment]
    shards.Keys = phases.timed("keys", shards.Keys)  # type: ignore[misc, assignment]
    preparation._described = phases.timed("manifest", preparation._described)
    start = time.perf_counter()
    preparation.prepare(config, begun)
    spent = time.perf_counter() - start + phases.seconds["reading"]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "entities": len(begun.release.entities),
        "seconds": round(spent, 1),
        "CPU seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak MB": max(phases.peaks.values()),
        "by phase: seconds (MB)": ", ".join(
            f"{name} {seconds:.1f} ({phases.peaks[name]:,})" for name, seconds in phases.seconds.items()
        ),
    }


class Phases:
    """Seconds and the largest memory, in MB, of phases that do not hold each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that notes what it takes."""

        def call(*given: Any, **named: Any) -> Any:
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
            start = time.perf_counter()
            found = function(*given, **named)
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
            self.peaks[name] = max(self.peaks.get(name, 0), status("VmHWM") >> 20)
            return found

        return call


def status(field: str, process: int | str = "self") -> int:
    """Return bytes that the system says of a process: VmHWM, the largest memory; RssAnon, its own."""
    lines = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(field)]
    return sum(int(line.split()[1]) << 10 for line in lines)  # none of one that has ended


def _mentions(rng: np.random.Generator, words: np.ndarray, entities: int, named: bool) -> Iterator[str]:
    """Yield the lines of mentions: of single words with lists, or `named` as other entities would be, without."""
    if named:
        names = [json.loads(line)["name"] for line in _lines(rng, words, 0, NAMED)]
        for number, (name, gold) in enumerate(zip(names, rng.integers(0, entities, NAMED).tolist(), strict=True)):
            line = {"id": f"m{number}", "text": f"{name} {words[number]}", "mention": name, "gold": f"Q{gold}"}
            yield json.dumps(line | {"split": "train"}) + "\n"
        return
    listed = rng.integers(0, entities, (MENTIONS, LISTED))
    for number, row in enumerate(listed.tolist()):
        line = {"id": f"m{number}", "text": f"{words[number]} {words[-number]}", "mention": str(words[number])}
        candidates = [f"Q{entity}" for entity in dict.fromkeys(row)]
        yield json.dumps(line | {"gold": candidates[0], "candidates": candidates, "split": "train"}) + "\n"


def _apart(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.sizes.planning", str(folder)]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def _word(number: int) -> str:
    """Return a word of its own, longer for larger numbers, as rare words are."""
    letters = ""
    while number >= 0:
        number, place = divmod(number, 100)
        letters = "bcdfghklmnprstvwxyzj"[place % 20] + "aeiou"[place // 20] + letters
        number -= 1
    return letters


def _lines(rng: np.random.Generator, words: np.ndarray, begin: int, count: int) -> list[str]:
    """Return the lines of so many entities from one on."""
    texts = []
    for low, high in LENGTHS:
        lengths = rng.integers(low, high + 1, count)
        picked = words[np.minimum(rng.zipf(1.2, lengths.sum()), WORDS) - 1]
        texts.append([" ".join(some) for some in np.split(picked, lengths.cumsum()[:-1])])
    return [
        json.dumps({"id": f"Q{row}", "name": name, "text": text}) + "\n"
        for row, (name, text) in enumerate(zip(*texts, strict=True), begin)
    ]


if __name__ == "__main__":
    main()
