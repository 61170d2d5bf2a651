"""The parts of `--only extract`: each in a process of its own and with a bound, so that it fails alone.

What a part has measured stands in extract-DEVICE.json at once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.encoding import crossed, pictures
from common.output import say
from extract.config import ExtractConfig
from extract.encoders import Encoders

Row = dict[str, Any]
ALL, LEAST = 460.0, 20.0  # seconds of all parts together, under eight minutes, and of one
# what is to be reached on an H200: of which table and row, and what
GOALS = (
    ("all encoders, pictures a second", 700, "extraction", "pictures_a_second"),
    ("without detector and crops, pictures a second", 5_000, "extract", "pictures_a_second"),
    ("busy share of the GPU", 0.85, "extraction", "gpu_busy"),
)


@dataclass(frozen=True)
class Part:
    """What fills a table, and how many seconds it may take."""

    table: str
    pixels: str
    seconds: float
    make: Callable[[ExtractConfig, Path], Iterator[Row]]


def measure(folder: Path, device: str) -> dict[str, list[Row]]:
    """Return the tables of all parts; on a CPU of toys and few pictures, in this process."""
    gpu = device != "cpu"
    if not gpu:
        say("extract: no GPU: toys and few pictures; fraction of peak and busy share of the GPU are left out")
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Row]] = {}
    end = time.monotonic() + ALL
    for name, part in PARTS.items():
        rows = apart(name, folder, device, min(part.seconds, end - time.monotonic())) if gpu else here(name, folder)
        for row in rows:
            say(f"extract: {name}: {json.dumps(row)}")
            tables.setdefault(part.table, []).append(row)
            (folder / f"extract-{device}.json").write_text(json.dumps(tables, indent=1))
    return {name: _even(rows) for name, rows in (tables | ({"goals": goals(tables)} if gpu else {})).items()}


def here(name: str, folder: Path, device: str = "cpu") -> Iterator[Row]:
    """Yield the rows of a part, made in this process."""
    part, gpu = PARTS[name], device != "cpu"
    config = ExtractConfig(
        weights="random-full" if gpu else "random-tiny",
        device=device,
        pixels=part.pixels,
        workers=16 if gpu else 2,
        image_batch=64 if gpu else 4,
    )
    yield from part.make(config, folder)


def apart(name: str, folder: Path, device: str, seconds: float, command: Sequence[str] = ()) -> list[Row]:
    """Return the rows of a part, made in a process of its own, and why it ended where it failed."""
    if seconds < LEAST:
        return [{"failed": f"{name}: no time was left"}]
    command = command or (sys.executable, "-m", __name__, name, str(folder), device)
    try:
        ended = subprocess.run(command, capture_output=True, timeout=seconds)
        said, failed = ended.stdout, ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        failed = f"status {ended.returncode}: {failed:.200}" if ended.returncode else ""
    except subprocess.TimeoutExpired as error:
        said, failed = error.stdout or b"", f"not finished in {seconds:.0f} s"
    lines = [line for line in said.decode(errors="replace").splitlines() if line[:1] == "{" and line[-1:] == "}"]
    rows = [json.loads(line) for line in lines]  # among what an extraction says
    return [*rows, {"failed": f"{name}: {failed}"}] if failed else rows


def goals(tables: dict[str, list[Row]]) -> list[Row]:
    """Return what was to be reached beside the best that was."""
    rows = []
    for said, goal, table, column in GOALS:
        of = [row for row in tables.get(table, []) if table != "extract" or row.get("encoder") == "image and joint"]
        best = max((row[column] for row in of if column in row), default=None)
        met = "not measured" if best is None else "met" if best >= goal else "missed"
        rows.append({"goal": said, "at least": goal, "found": best, "": met})
    return rows


def _even(rows: list[Row]) -> list[Row]:
    """Return rows of one table with the columns of all of them."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _speeds(config: ExtractConfig, folder: Path) -> Iterator[Row]:
    yield from pictures.speeds(config, 0 if config.device == "cpu" else 2)


def _compiled(config: ExtractConfig, folder: Path) -> Iterator[Row]:
    gpu = config.device != "cpu"
    yield from pictures.speeds(config, 2 if gpu else 0, compile_by="inductor" if gpu else "eager")


def _extraction(config: ExtractConfig, folder: Path) -> Iterator[Row]:
    yield pictures.extraction(config, folder, 8 if config.device == "cpu" else 3072)


def _crossing(config: ExtractConfig, folder: Path) -> Iterator[Row]:
    count = {"text_batch": len(crossed.TEXTS), "image_batch": len(crossed.SIDES)}
    yield from crossed.crossing(Encoders(ExtractConfig(weights="random-tiny", device="cpu", **count)))


PARTS = {
    "encoders": Part("extract", "host", 80, _speeds),
    "extraction": Part("extraction", "host", 110, _extraction),
    "extraction, pixels on the device": Part("extraction", "device", 80, _extraction),
    "encoders, pixels on the device": Part("extract", "device", 60, _speeds),
    "compiled": Part("compiled", "host", 120, _compiled),
    "copies": Part("copies and waits of a batch of four", "host", 60, _crossing),
}


if __name__ == "__main__":
    for made in here(sys.argv[1], Path(sys.argv[2]), sys.argv[3]):
        print(json.dumps(made), flush=True)
