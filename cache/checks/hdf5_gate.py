"""Look at a stranger's HDF5 files before other tools open them: in a child process with limits, against an allow-list.

melcache itself never lets libhdf5 near a file that it did not just write: `cache.reader` takes bytes at the offsets of
the manifest. But h5py will read any local file that a shard names (external storage, links, virtual datasets), run
plugins, or unpack a bomb. So `verify`, `pull` and `import` refuse every file that is not of the plain profile.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the child process has no packages of ours
    from cache.manifests.entries import Manifest, ShardEntry

MEMORY = 256 << 20  # of addresses, beside what the libraries take
SECONDS_START, SECONDS_EACH = 300, 2  # of the clock for the child to start, on the busiest machine; of a processor
DIED = "libhdf5 crashed on it, or took more time or memory than such a file can need"


def problems(folder: Path, manifest: "Manifest", shards: Sequence["ShardEntry"]) -> Iterator[tuple[str, str]]:
    """Yield (file, what is wrong with its HDF5 structure, "" if nothing) for shards of a manifest, in order."""
    left = [wanted(folder, manifest, shard) for shard in shards]
    while left:
        done = 0
        for file, found in _ask(left):
            yield file, found
            done += 1
        left = left[done:]
        if left:  # the child died on the next one
            yield left.pop(0)["file"], DIED


def wanted(folder: Path, manifest: "Manifest", shard: "ShardEntry") -> dict[str, Any]:
    """Return what `problem` is told of a shard: where it lies, and type, shape and offset by column."""
    specs = manifest.parts[shard.part].columns
    columns = {
        name: [spec.dtype, [shard.rows, *spec.shape], shard.columns[name].offset] for name, spec in specs.items()
    }
    return {"folder": str(folder), "file": shard.file, "columns": columns}


def _ask(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what the child said of the first files; of fewer than all if it died."""
    environment = os.environ | {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "FALSE"}
    try:
        child = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps(items).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=SECONDS_START + SECONDS_EACH * len(items),
        )
        lines = child.stdout
    except subprocess.TimeoutExpired as error:
        lines = error.stdout or b""
    answers = lines.split(b"\n")[:-1]  # the last one may be cut
    return [(item["file"], json.loads(line)) for item, line in zip(items, answers, strict=False)]


def main() -> None:
    """Print a line of JSON for each file named on stdin.  This runs in the child."""
    import h5py  # noqa: F401 - before the limits, which count from what it takes

    items = json.load(sys.stdin)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    for item in items:
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + SECONDS_EACH)
        print(json.dumps(problem(Path(item["folder"]) / item["file"], item["columns"])), flush=True)


def _limit(kind: int, most: int) -> None:
    """Limit this process, whatever hard limit it has from outside already."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def problem(path: Path, columns: dict[str, Any]) -> str:
    """Return what is wrong with a file's structure, "" if nothing.  To be called in the child: libhdf5 may crash."""
    import h5py

    try:
        file = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)
        return _structure(h5py, file, columns)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        return f"HDF5 cannot read it: {' '.join(str(error).split())[:120]}"


def _structure(h5py: Any, file: Any, columns: dict[str, Any]) -> str:
    if file.get_create_plist().get_userblock():
        return "it has a user block"
    root = h5py.h5g.open(file, b"/")
    names = {name.encode() for name in columns}
    if h5py.h5a.get_num_attrs(root) or root.get_num_objs() != len(names):
        return "it holds attributes, or other objects than its columns"
    for name in sorted(names):
        if not root.links.exists(name) or root.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            return f"{name.decode()} is not in it, or is a link to elsewhere"
        if root.get_objtype_by_idx(sorted(names).index(name)) != h5py.h5g.DATASET:
            return f"{name.decode()} is not a dataset"
        if found := _dataset(h5py, h5py.h5d.open(root, name), *columns[name.decode()]):
            return f"{name.decode()} {found}"
    return ""


def _dataset(h5py: Any, dataset: Any, dtype: str, shape: list[int], offset: int) -> str:
    plan, kind = dataset.get_create_plist(), dataset.get_type()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
        return "is not stored plainly in the file"
    if kind.committed() or h5py.h5a.get_num_attrs(dataset):
        return "has a named type or attributes"
    if list(dataset.shape) != shape or list(dataset.get_space().get_simple_extent_dims(True)) != shape:
        return f"has shape {dataset.shape}, the manifest says {tuple(shape)}"
    found = kind.dtype
    if found.hasobject or found.str != dtype:
        return f"has type {found.str}, the manifest says {dtype}"
    if not kind.equal(stored(h5py, dtype)):  # numpy calls a float with a moved sign bit <f2, too
        return f"has a type of its own, {dtype} by size alone: HDF5 would read other values than melcache does"
    if dataset.get_offset() != offset:
        return "is not at the offset that the manifest says"
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return "" if dataset.get_storage_size() == size else f"has {dataset.get_storage_size()} bytes of {size}"


def stored(h5py: Any, dtype: str) -> Any:
    """Return the HDF5 type that melcache writes numpy's as, to be compared in every bit, padding and name."""
    kind = np.dtype(dtype)
    return h5py.h5t.py_create(h5py.string_dtype("utf-8", kind.itemsize) if kind.kind == "S" else kind, logical=True)


if __name__ == "__main__":
    main()
