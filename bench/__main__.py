"""`make bench`: every line of docs/benchmarks.md, measured in paired runs; --record writes them there."""

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import cache
from bench import encoding, extracting, loading, profile, ranking, startup
from bench.kernels import Count
from bench.pairs import race
from bench.simulation import measured
from bench.worker import BATCH, melcache_step, table_of
from cache.writing.synth import SHAPES, Synthetic, write
from common import console, devices
from common.output import say
from train.data.table import Table

ROOT = Path(__file__).parent.parent
WORK = ROOT / "runs" / "bench"
TURNS = {"wikidiverse": 11, "wikimel": 7}
STEPS = 4  # of a turn: a trainer takes them one after the other, with its weights in the processor's memory


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


def step(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Race the training step against the literal dense graph: plain PyTorch, and with our allocator setting."""
    rows = []
    kinds = ("melcache", "dense", "dense-kept") if device == "cpu" else ("melcache", "dense")
    for name, path in caches.items():
        for count in threads if device == "cpu" else [2]:
            found = race({kind: worker(kind, path, count, device) for kind in kinds}, TURNS[name], ROOT)
            rows.append(
                {"cache": name, "candidates": SHAPES[name][2], "threads": count}
                | {f"{kind}_ms": round(found.milliseconds(kind), 2) for kind in kinds}
                | {f"{kind}_ratio": round(found.ratio(kind, "melcache"), 2) for kind in kinds[1:]}
            )
    return rows


def authors(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Race drin_authors against the authors' step taken literally: on a ready batch, and with their inputs read."""
    rows = []
    kinds = ("authors", "authors-literal", "authors-reading") if device == "cpu" else ("authors", "authors-literal")
    for name, path in caches.items():
        counted = {kind: profile.count(table_of(path, kind, torch.device("cpu")), kind) for kind in kinds[:2]}
        for count in threads if device == "cpu" else [2]:
            found = race({kind: worker(kind, path, count, device) for kind in kinds}, TURNS[name], ROOT)
            rows.append(
                {"cache": name, "candidates": SHAPES[name][2], "threads": count}
                | {f"{kind}_ms": round(found.milliseconds(kind), 2) for kind in kinds}
                | {f"{kind}_ratio": round(found.ratio(kind, "authors"), 2) for kind in kinds[1:]}
                | {f"{kind}_gflop": round(value["flops"] / 1e9, 1) for kind, value in counted.items()}
            )
    return rows


def seeds(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Race a step of five stacked seeds against five steps of one."""
    rows = []
    for name, path in caches.items():
        kinds = ("together", "one-by-one")
        found = race({kind: worker(kind, path, threads[-1], device) for kind in kinds}, TURNS[name], ROOT)
        rows.append(
            {"cache": name, "threads": threads[-1]}
            | {f"{kind}_ms": round(found.milliseconds(kind), 2) for kind in kinds}
            | {"ratio": round(found.ratio("together", "one-by-one"), 2)}
        )
    return rows


def kernels(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Count what one step dispatches."""
    rows = []
    for name, path in caches.items():
        table = Table(cache.open(path), "drin", torch.device("cpu"))
        train = melcache_step(table, (0,), "float32")
        batch = table.rows("train")[:BATCH]
        train(batch)
        with Count() as counted:
            train(batch)
        totals = {kind: getattr(counted, kind).total() for kind in ("kernels", "views", "waits")}
        rows.append({"cache": name} | totals)
    return rows


def load(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Load the tables and the same bytes with np.load."""
    found = {name: loading.measure(path, WORK / f"{name}-npy", 15) for name, path in caches.items()}
    return [{"cache": name} | {key: round(value, 3) for key, value in row.items()} for name, row in found.items()]


def gather(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Gather 64 random rows of three columns."""
    devices.use_threads(threads[-1])
    found = {name: loading.gather(path, 101) for name, path in caches.items()}
    return [{"cache": name} | {key: round(value, 3) for key, value in row.items()} for name, row in found.items()]


def codes(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Gather the tokens of 64 sentences and the regions of 64 pictures, stored as float16 and as codes."""
    devices.use_threads(threads[0])
    devices.keep_freed_memory()
    found = {
        "tokens, 384 wide": loading.codes(100_000, (384,), 64 * 32, 51),
        "regions, 49 x 2048": loading.codes(500, (49, 2048), 64, 51),
    }
    return [{"vectors": name} | {key: round(value, 2) for key, value in row.items()} for name, row in found.items()]


def verify(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Verify a cache, and hash the same bytes."""
    found = {name: loading.check(path, 7) for name, path in caches.items()}
    return [{"cache": name} | {key: round(value, 3) for key, value in row.items()} for name, row in found.items()]


def start(caches: dict[str, Path], threads: list[int], device: str) -> dict[str, float]:
    """Start a run, --help, and `import torch`."""
    return {name: round(value, 3) for name, value in startup.measure(5).items()}


def counts(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Count operations and bytes of one step of both models, and profile ours."""
    devices.use_threads(threads[-1])
    devices.keep_freed_memory()
    rows = []
    for name, path in caches.items():
        table = Table(cache.open(path), "drin", torch.device("cpu"))
        counted = {kind: profile.count(table, kind) for kind in ("melcache", "dense")}
        rows.append({"cache": name, "counted": counted, "operators": profile.operators(table)})
    return rows


def encode(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Encode texts by a named model of MiniLM's shape, as it was and as it is."""
    rows = []
    for count in threads if device == "cpu" else [2]:
        devices.use_threads(count)
        found = encoding.measure(WORK / "minilm-shape", 7, device)
        found |= encoding.extraction(WORK, device)
        found |= encoding.packed(5) if device == "cpu" else {}
        rows.append({"threads": count} | {name: float(f"{value:.3g}") for name, value in found.items()})
    return rows


def rank(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Rank the test mentions of WikiMEL's shape among all entities of its published knowledge base."""
    rows = []
    for count in threads if device == "cpu" else [2]:
        devices.use_threads(count)
        found = ranking.measure(5_131, 110_000, 512, 5, device)
        rows.append({"threads": count} | {name: float(f"{value:.3g}") for name, value in found.items()})
    return rows


def extract(caches: dict[str, Path], threads: list[int], device: str) -> dict[str, list[dict[str, Any]]]:
    """Count what crosses in a batch of each encoder, and measure pictures a second of encoders and extractions."""
    return extracting.measure(WORK / "pictures", device)


def workers(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Simulate how 2 to 64 workers divide an extraction, with measured costs."""
    return list(measured.table())


LINES = {
    "step": step,
    "authors": authors,
    "seeds": seeds,
    "kernels": kernels,
    "load": load,
    "gather": gather,
    "codes": codes,
    "verify": verify,
    "start": start,
    "counts": counts,
    "encode": encode,
    "rank": rank,
    "extract": extract,
    "workers": workers,
}
WITHOUT_CACHES = {"codes", "encode", "extract", "rank", "start", "workers"}


def worker(kind: str, path: Path, threads: int, device: str) -> list[str]:
    """Return the command of a contender."""
    given = [kind, str(path), "--threads", str(threads), "--device", device, "--steps", str(STEPS)]
    return [sys.executable, "-m", "bench.worker", *given]


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
    for name in LINES:
        if name == "extract":
            lines += [f"**{table}**\n\n{_rows(rows)}" for table, rows in found.get(name, {}).items()]
        elif name == "counts":
            lines += [_counts(row) for row in found.get(name, [])]
        elif name in found:
            rows = found[name] if isinstance(found[name], list) else [found[name]]
            lines.append(f"**{name}**\n\n{_rows(rows)}")
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


if __name__ == "__main__":
    console.run(lambda prog_name: main(), "python -m bench")
