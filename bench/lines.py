"""The lines of docs/benchmarks.md, each a function of synthetic caches, numbers of threads and a device."""

import sys
from pathlib import Path
from typing import Any

import torch

import cache
from bench.encoding import bounded, texts
from bench.measuring.kernels import Count
from bench.measuring.processes import race
from bench.ranking import exact_ranks
from bench.simulation import measured
from bench.training import loading, profile, startup
from bench.training.worker import BATCH, melcache_step, table_of
from cache.writing.synth import SHAPES
from common import devices
from train.data.table import Table

ROOT = Path(__file__).parent.parent
WORK = ROOT / "runs" / "bench"
TURNS = {"wikidiverse": 11, "wikimel": 7}
STEPS = 4  # of a turn: a trainer takes them one after the other, with its weights in the processor's memory


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
        found = texts.measure(WORK / "minilm-shape", 7, device)
        found |= texts.extraction(WORK, device)
        found |= texts.packed(5) if device == "cpu" else {}
        rows.append({"threads": count} | {name: float(f"{value:.3g}") for name, value in found.items()})
    return rows


def rank(caches: dict[str, Path], threads: list[int], device: str) -> list[dict[str, Any]]:
    """Rank the test mentions of WikiMEL's shape among all entities of its published knowledge base."""
    rows = []
    for count in threads if device == "cpu" else [2]:
        devices.use_threads(count)
        found = exact_ranks.measure(5_131, 110_000, 512, 5, device)
        rows.append({"threads": count} | {name: float(f"{value:.3g}") for name, value in found.items()})
    return rows


def extract(caches: dict[str, Path], threads: list[int], device: str) -> dict[str, list[dict[str, Any]]]:
    """Count what crosses in a batch of each encoder, and measure pictures a second of encoders and extractions."""
    return bounded.measure(WORK / "pictures", device)


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
    return [sys.executable, "-m", "bench.training.worker", *given]
