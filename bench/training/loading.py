"""Reading a cache against what its bytes cost without one: np.load, sha256."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cache
from bench.measuring.turns import in_turns, milliseconds, ratios
from cache.checks.verify import verify
from cache.quantized import LEVELS, Quantized, encode
from cache.schema import READS
from train.data.features.feature_column import Feature

GATHERED = ("mention.text.span", "entity.text.sentence", "entity.image.vector")
ROWS = 64


def measure(path: Path, folder: Path, turns: int) -> dict[str, float]:
    """Return median milliseconds of loading what DRIN reads, and the medians of ratios to np.load of the same bytes.

    Both lie in the page cache as writing left them: what comes back from the disk lies there in smaller pieces, which
    read at half the speed. `mapped` ways copy nothing: what `--resident mmap` opens.
    """
    reader, names = cache.open(written_afresh(path, folder / "cache")), READS["drin"]
    paths = save_plain(reader, folder)
    ways: dict[str, Callable[[], Any]] = {
        "np.load": lambda: [np.load(file) for file in paths],
        "unchecked": lambda: reader.load(names, check=False),
        "checked": lambda: reader.load(names),
        "mapped_unchecked": lambda: [reader.pieces(name, check=False) for name in names],
        "mapped_checked": lambda: [reader.pieces(name) for name in names],
    }
    found = in_turns(ways, turns)
    total = sum(reader.dtype(name).itemsize * int(np.prod(reader.shape(name))) for name in names)
    return {"bytes": total} | milliseconds(found) | ratios(found, "np.load")


def gather(path: Path, turns: int) -> dict[str, float]:
    """Return median milliseconds of 64 random rows of three columns, as a batch takes them: loaded, and from maps."""
    reader, rng = cache.open(path), np.random.default_rng(0)
    cpu = torch.device("cpu")
    loaded = [Feature([(0, reader.read(name))], None, "device", cpu) for name in GATHERED]
    mapped = [Feature(reader.pieces(name), None, "mmap", cpu) for name in GATHERED]

    def take(features: list[Feature]) -> list[torch.Tensor]:
        return [feature.take(torch.from_numpy(rng.integers(0, feature.count, ROWS))).values() for feature in features]

    return milliseconds(in_turns({"loaded": lambda: take(loaded), "mapped": lambda: take(mapped)}, turns))


def codes(rows: int, shape: tuple[int, ...], taken: int, turns: int) -> dict[str, float]:
    """Return median milliseconds of random rows of vectors as a batch holds them, in float32, and ratios to float16.

    Of `rows` rows of a shape, as many as `taken`, which lie in memory as float16 or as codes.
    """
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, *shape), np.float32)
    stored: dict[str, Any] = {"float16": vectors.astype(np.float16)}
    stored |= {kind: Quantized(*encode(vectors, kind), shape[-1]) for kind in LEVELS}
    held = {name: Feature([(0, array)], None, "device", torch.device("cpu")) for name, array in stored.items()}

    def way(feature: Feature) -> Callable[[], torch.Tensor]:
        return lambda: feature.take(torch.from_numpy(rng.integers(0, rows, taken))).values().float()

    found = in_turns({name: way(feature) for name, feature in held.items()}, turns)
    return (
        {f"{name}_mb": array.nbytes / 1e6 for name, array in stored.items()}
        | milliseconds(found)
        | ratios(found, "float16")
    )


def check(path: Path, turns: int) -> dict[str, float]:
    """Return median milliseconds of `melcache verify`, and its ratio to sha256 of the same files."""
    files = [path / shard.file for shard in cache.open(path).manifest.shards]

    def plain() -> list[str]:
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    found = in_turns({"sha256": plain, "verify": lambda: list(verify(path))}, turns)
    return milliseconds(found) | ratios(found, "sha256")


def written_afresh(path: Path, folder: Path) -> Path:
    """Return a copy of a cache, each file written at once as melcache does."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in path.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def save_plain(reader: cache.Reader, folder: Path) -> list[Path]:
    """Write the columns that DRIN reads as .npy files; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.npy" for name in READS["drin"]]
    for name, path in zip(READS["drin"], paths, strict=True):
        np.save(path, reader.column(name))
    return paths
