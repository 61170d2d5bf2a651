"""Where things lie: caches under shards/, raw releases under data/, training runs under runs/."""

import glob
import os
from pathlib import Path

from common.errors import CacheError

SHARDS = Path("shards")
DATA = Path("data")
RUNS = Path("runs")


def find_cache(name: str | Path, shards: Path = SHARDS) -> Path:
    """Return the directory of a cache given as a path or as a name under `shards`.  Raises CacheError."""
    path = Path(name)
    for candidate in (path, shards / path):
        if os.path.exists(candidate / "manifest.json"):  # Path.exists() raises for a name too long
            return candidate
    for candidate in (path, shards / path):
        if os.path.isdir(candidate):
            raise CacheError(
                f"{candidate}/ has no manifest.json: its extraction has not finished, or its pull. "
                f"Finish it with: make extract DATASET={path.name}, or the same melcache pull"
            )
    there = sorted(Path(manifest).parent.name for manifest in glob.glob(f"{glob.escape(str(shards))}/*/manifest.json"))
    other = f", or take one of: {', '.join(there)}" if there else ""
    raise CacheError(f"No cache for '{name}' in {shards}/. Make it with: make extract DATASET={path.name}{other}")
