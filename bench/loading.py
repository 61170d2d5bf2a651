"""Loading the tables of a cache against np.load of the same bytes, taking turns in one process."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cache
from cache.schema import READS


def save_plain(reader: cache.Reader, folder: Path) -> list[Path]:
    """Write the columns that DRIN reads as .npy files; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.npy" for name in READS["drin"]]
    for name, path in zip(READS["drin"], paths, strict=True):
        np.save(path, reader.column(name))
    return paths


def measure(path: Path, folder: Path, turns: int) -> dict[str, float]:
    """Return median milliseconds of np.load and of the reader, and the medians of paired ratios."""
    reader = cache.open(path)
    paths = save_plain(reader, folder)
    ways: dict[str, Callable[[], list[np.ndarray]]] = {
        "np.load": lambda: [np.load(file) for file in paths],
        "unchecked": lambda: list(reader.load(READS["drin"], check=False).values()),
        "checked": lambda: list(reader.load(READS["drin"]).values()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns + 1):  # the first one warms up; who follows whom changes, for memory is as it was left
        for name in names[turn % 3 :] + names[: turn % 3]:
            load = ways[name]
            start = time.perf_counter()
            arrays = load()
            took = time.perf_counter() - start
            total = sum(array.nbytes for array in arrays)
            del arrays
            if turn:
                seconds[name].append(took)
    plain = seconds["np.load"]
    return {
        "bytes": total,
        **{f"{name}_ms": 1e3 * statistics.median(took) for name, took in seconds.items()},
        **{
            f"{name}_ratio": statistics.median(a / b for a, b in zip(seconds[name], plain, strict=True))
            for name in ("unchecked", "checked")
        },
    }
