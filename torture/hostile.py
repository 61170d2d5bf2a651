"""A stranger's cache: HDF5 files full of tricks under honest-looking manifests, and manifests that attack.

Whoever writes both can say what he likes about numbers. He must not make us open another file, take more memory than
the tensors have, hang or crash; and other tools must not be let near his files.
"""

import hashlib
import json
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from cache import fingerprint, manifest, store
from cache.reader import Reader
from cache.verify import verify
from common.errors import CacheError
from torture.kills import child
from torture.world import Result, build

ROWS, WIDTH = 3, 4
COLUMNS = {"text": ("<f2", (WIDTH,)), "truncated": ("|b1", ())}
SECRET = b"the secret of another file, which no cache may show"
MEMORY = 256 << 20  # of its own that a reader of a hostile cache may take
SECONDS = 1.0
Trick = Callable[[Path, Path], None]


def honestly(path: Path, secret: Path) -> None:
    """Write the file that the manifest describes."""
    with h5py.File(path, "w", libver="v110") as file:
        plain(file)


def plain(file: Any, skip: str = "") -> None:
    """Write the honest columns but one."""
    for name, (dtype, shape) in COLUMNS.items():
        if name != skip:
            file.create_dataset(name, data=np.zeros((ROWS, *shape), dtype), track_times=False)


def _external_storage(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (ROWS, WIDTH), "<f2", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _external_storage_relative(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset(
            "text", (ROWS, WIDTH), "<f2", external=[("../../../../etc/hostname", 0, h5py.h5f.UNLIMITED)]
        )


def _external_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file["text"] = h5py.ExternalLink(str(secret), "/text")


def _soft_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("truth", data=np.zeros((ROWS, WIDTH), "<f2"))
        file["text"] = h5py.SoftLink("/truth")


def _dangling_soft_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file["text"] = h5py.SoftLink("/nowhere")


def _soft_link_through_external(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file["door"] = h5py.ExternalLink(str(secret), "/")
        file["text"] = h5py.SoftLink("/door/text")


def _virtual(path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((ROWS, WIDTH), "<f2")
    layout[:] = h5py.VirtualSource(str(secret), "text", (ROWS, WIDTH))
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_virtual_dataset("text", layout)


def _chunked(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=np.zeros((ROWS, WIDTH), "<f2"), chunks=(1, WIDTH))


def _compressed(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=np.zeros((ROWS, WIDTH), "<f2"), compression="gzip", shuffle=True)


def _checksummed(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=np.zeros((ROWS, WIDTH), "<f2"), fletcher32=True)


def _unknown_filter(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((1, WIDTH))
        plan.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))  # a plugin's: looked for on the disk and loaded
        space = h5py.h5s.create_simple((ROWS, WIDTH))
        h5py.h5d.create(file.id, b"text", h5py.h5t.IEEE_F16LE, space, plan)


def _bomb(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (1 << 22, 1 << 10), "<f2", chunks=(1 << 12, 1 << 10), compression="gzip")


def _petabyte(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (1 << 38, 1 << 10), "<f2", chunks=(64, 64))


def _endless(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (ROWS, WIDTH), "<f2", maxshape=(None, WIDTH), chunks=True)


def _cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file["text"] = file["/"]


def _group(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        plain(file.create_group("text"))


def _more_objects(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file.create_dataset("payload", data=np.frombuffer(b"#!/bin/sh\n" * 10, np.uint8))


def _hard_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file["again"] = file["text"]


def _attributes(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file["text"].attrs["hidden"] = "x" * 1000


def _root_attributes(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file.attrs["hidden"] = "x" * 1000


def _variable_strings(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=["a" * 100] * ROWS, dtype=h5py.string_dtype())


def _references(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=[file.ref] * ROWS, dtype=h5py.ref_dtype)


def _named_type(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file["kind"] = np.dtype("<f2")
        file.create_dataset("text", (ROWS, WIDTH), file["kind"])
        del file["kind"]


def _compound(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (ROWS, WIDTH), np.dtype([("a", "<f2")]))


def _big_endian(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=np.ones((ROWS, WIDTH), ">f2"))


def _other_shape(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", data=np.zeros((ROWS + 1, WIDTH), "<f2"))


def _user_block(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        plain(file)
    with path.open("r+b") as file:
        file.write(b"#!/bin/sh\necho owned\n")


def _not_hdf5(path: Path, secret: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(4096))


def _cut_off(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
    path.write_bytes(path.read_bytes()[:600] + bytes(3000))


def _never_allocated(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "text")
        file.create_dataset("text", (ROWS, WIDTH), "<f2")


TRICKS: dict[str, Trick] = {
    name.removeprefix("_"): made
    for name, made in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and callable(made)
}


def disguise(folder: Path, trick: Trick, secret: Path) -> Path:
    """Write a cache whose one shard of entity.bert is the trick's file, and a manifest that fits it."""
    folder.mkdir(parents=True)
    key = "ab" * 32
    path = folder / f"entity.bert-00000.{key[:12]}.h5"
    trick(path, secret)
    offset = path.stat().st_size  # where a column has no place of its own, one behind the end of the file
    data = path.read_bytes() + bytes(256)
    path.write_bytes(data)
    specs = {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in COLUMNS.items()}
    places = {}
    for name, (dtype, shape) in COLUMNS.items():
        size = ROWS * int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        place = _offset(path, name)
        if place is None or place + size > len(data):
            place, offset = offset, offset + size
        digest = xxhash.xxh3_128_hexdigest(data[place : place + size])
        places[name] = {"offset": place, "xxh3": digest, "min": None, "max": None}
    recipe = {"columns": specs}
    part = {"recipe": recipe, "inputs": {}, "columns": specs}
    part["fingerprint"] = fingerprint.digest({"recipe": recipe, "inputs": {}})
    shard = {"part": "entity.bert", "file": path.name, "start": 0, "rows": ROWS, "bytes": len(data), "key": key}
    shard |= {"sha256": hashlib.sha256(data).hexdigest(), "columns": places}
    content = {
        "format": "melcache",
        "version": 1,
        "dataset": {"name": "stranger", "content": "0" * 64, "licence": "CC0", "source": "a stranger"},
        "tables": {"entity": ROWS, "mention": 1, "pair": 1},
        "candidates": 1,
        "splits": {},
        "coverage": {},
        "warnings": [],
        "parts": {"entity.bert": part},
        "shards": [shard],
        "provenance": {},
    }
    (folder / manifest.NAME).write_bytes(fingerprint.canonical(manifest.seal(content)) + b"\n")
    return folder


def _misplaced(folder: Path, kind: str, secret: Path) -> Path:
    """Write an honest cache and put something else in place of its shard."""
    disguise(folder, honestly, secret)
    path = next(folder.glob("*.h5"))
    path.rename(secret.parent / f"{kind}.h5")
    if kind == "symlink":
        path.symlink_to(secret.parent / f"{kind}.h5")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    return folder


def _offset(path: Path, name: str) -> int | None:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file[name].id.get_offset()
    except (OSError, KeyError, AttributeError, RuntimeError, ValueError):
        return None


def run(scratch: Path, seed: int) -> Result:
    """Open every trick as a stranger's cache: read it in a process with little memory, and verify it."""
    result, secret = Result("hostile files"), scratch / "secret.txt"
    scratch.mkdir(parents=True, exist_ok=True)
    secret.write_bytes(SECRET * 100)
    honest = disguise(scratch / "honest", honestly, secret)
    if problems := [finding.problem for finding in verify(honest) if finding.problem]:
        result.fail(f"an honest file is refused: {problems[0]}")
    folders = {name: disguise(scratch / name, trick, secret) for name, trick in TRICKS.items()}
    folders |= {kind: _misplaced(scratch / kind, kind, secret) for kind in ("symlink", "fifo", "directory")}
    for name, folder in folders.items():
        result.case()
        if problem := read_apart(folder):
            result.fail(f"{name}: {problem}")
        start = time.monotonic()
        problems = [finding.problem for finding in verify(folder) if finding.problem]
        if not problems:
            result.fail(f"{name}: verify finds nothing")
        result.counts["slowest verify, ms"] = max(
            result.counts.get("slowest verify, ms", 0), round(1000 * (time.monotonic() - start))
        )
    return result


def read_apart(folder: Path) -> str:
    """Read every column of a cache in a process of its own; return what it did that it must not, "" if nothing."""
    report = folder.parent / "report.json"
    start = time.monotonic()
    _, status = os.waitpid(child(lambda: _read(folder, report)), 0)
    seconds = time.monotonic() - start
    if status:
        return f"reading it ended with status {status}"
    found = json.loads(report.read_text())
    if found["foreign"]:
        return f"it made us open {found['foreign']}"
    if found["memory"] > MEMORY or seconds > SECONDS:
        return f"reading it took {found['memory'] >> 20} MB and {seconds:.1f} s"
    return "it showed another file" if found["leaked"] else ""


def _read(folder: Path, report: Path) -> None:
    opened: list[str] = []
    real = os.open

    def watched(path: Any, *rest: Any, **more: Any) -> int:
        descriptor = real(path, *rest, **more)
        opened.append(os.fspath(path))  # and not what was refused
        return descriptor

    os.open = watched
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    leaked = False
    try:
        reader = Reader(folder)
        for name in reader.columns:
            leaked |= SECRET[:20] in reader.column(name).tobytes()
    except CacheError:
        pass
    os.open = real
    listed = {str(path) for path in folder.iterdir()}
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    listed = {path for path in listed if not os.path.islink(path)}
    found = {"foreign": sorted(set(opened) - listed), "memory": memory, "leaked": leaked}
    store.publish(report, json.dumps(found).encode(), replace=True)


def mutate(scratch: Path, count: int, seed: int) -> Result:
    """Change manifests at random, sealing them anew: each is refused with a CacheError or reads only its own files."""
    result, rng, folder = Result("manifest mutations"), random.Random(seed), scratch / "cache"
    build(folder, seed)
    path = folder / manifest.NAME
    good = json.loads(path.read_text())
    for _ in range(count):
        content = json.loads(json.dumps(good))
        what = _mutation(content, rng)
        try:
            data = fingerprint.canonical(manifest.seal(content)) + b"\n"
        except (ValueError, TypeError, AttributeError):
            continue
        path.write_bytes(data)
        result.case()
        try:
            reader = Reader(folder)
            for name in reader.columns:
                reader.column(name)
            result.count("opened")
        except CacheError:
            result.count("refused")
        except Exception as error:  # what must not happen
            result.fail(f"{what}: {error!r}")
    return result


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1 << 31, 1 << 63, 1 << 80, 0.5, 1e308, "", "x", "../x", "/etc/passwd", "a\x1b[31m", "\ud800",
    [], [1], {}, {"a": 1}, "ab" * 32, "|O", "<f8", [1 << 24] * 3, [-1], "x" * 20_000,
)  # fmt: skip


def _mutation(content: Any, rng: random.Random) -> str:
    """Replace, drop, double or add something somewhere; return what."""
    node, trail = content, []
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        trail.append(str(key))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        break
    kind = rng.choice(("replace", "replace", "replace", "drop", "add", "double"))
    if kind == "replace":
        node[key] = rng.choice(VALUES)
    elif kind == "drop":
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(("x", "file", "columns"))] = rng.choice(VALUES) if kind == "add" else node[key]
    else:
        node.append(rng.choice(VALUES) if kind == "add" else node[key])
    return f"{kind} {'.'.join(trail)}"
