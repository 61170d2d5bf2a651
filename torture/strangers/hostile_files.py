"""Hostile HDF5 files: each trick writes one, and `disguise` a manifest that fits it to the last digest."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from cache import fingerprint, manifests

ROWS, WIDTH = 3, 4
COLUMNS = {"sentence": ("<f2", (WIDTH,)), "truncated": ("|b1", ())}
VALUES = {"sentence": np.arange(1, 1 + ROWS * WIDTH).reshape(ROWS, WIDTH), "truncated": np.arange(ROWS) % 2}
Trick = Callable[[Path, Path], None]  # given the file to write, and a secret one that no cache may show


def honestly(path: Path, secret: Path) -> None:
    """Write the file that the manifest describes."""
    with h5py.File(path, "w", libver="v110") as file:
        plain(file)


def plain(file: Any, skip: str = "") -> None:
    """Write the honest columns but one."""
    for name, (dtype, _) in COLUMNS.items():
        if name != skip:
            file.create_dataset(name, data=VALUES[name].astype(dtype), track_times=False)


def _external_storage(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (ROWS, WIDTH), "<f2", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _external_storage_relative(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (ROWS, WIDTH), "<f2", external=[(f"../{secret.name}", 0, h5py.h5f.UNLIMITED)])


def _external_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file["sentence"] = h5py.ExternalLink(str(secret), "/sentence")


def _soft_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("truth", data=np.zeros((ROWS, WIDTH), "<f2"))
        file["sentence"] = h5py.SoftLink("/truth")


def _dangling_soft_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file["sentence"] = h5py.SoftLink("/nowhere")


def _soft_link_through_external(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file["door"] = h5py.ExternalLink(str(secret), "/")
        file["sentence"] = h5py.SoftLink("/door/sentence")


def _virtual(path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((ROWS, WIDTH), "<f2")
    layout[:] = h5py.VirtualSource(str(secret), "sentence", (ROWS, WIDTH))
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_virtual_dataset("sentence", layout)


def _chunked(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=np.zeros((ROWS, WIDTH), "<f2"), chunks=(1, WIDTH))


def _compressed(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=np.zeros((ROWS, WIDTH), "<f2"), compression="gzip", shuffle=True)


def _checksummed(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=np.zeros((ROWS, WIDTH), "<f2"), fletcher32=True)


def _unknown_filter(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((1, WIDTH))
        plan.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))  # a plugin's: looked for on the disk and loaded
        space = h5py.h5s.create_simple((ROWS, WIDTH))
        h5py.h5d.create(file.id, b"sentence", h5py.h5t.IEEE_F16LE, space, plan)


def _bomb(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (1 << 22, 1 << 10), "<f2", chunks=(1 << 12, 1 << 10), compression="gzip")


def _petabyte(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (1 << 38, 1 << 10), "<f2", chunks=(64, 64))


def _endless(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (ROWS, WIDTH), "<f2", maxshape=(None, WIDTH), chunks=True)


def _cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file["sentence"] = file["/"]


def _group(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        plain(file.create_group("sentence"))


def _more_objects(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file.create_dataset("payload", data=np.frombuffer(b"#!/bin/sh\n" * 10, np.uint8))


def _hard_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file["again"] = file["sentence"]


def _attributes(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file["sentence"].attrs["hidden"] = "x" * 1000


def _root_attributes(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file)
        file.attrs["hidden"] = "x" * 1000


def _variable_strings(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=["a" * 100] * ROWS, dtype=h5py.string_dtype())


def _references(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=[file.ref] * ROWS, dtype=h5py.ref_dtype)


def _named_type(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file["kind"] = np.dtype("<f2")
        file.create_dataset("sentence", (ROWS, WIDTH), file["kind"])
        del file["kind"]


def _compound(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", (ROWS, WIDTH), np.dtype([("a", "<f2")]))


def _big_endian(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=np.ones((ROWS, WIDTH), ">f2"))


def _moved_sign_bit(path: Path, secret: Path) -> None:
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(0, 11, 5, 1, 10)  # numpy calls it <f2 still
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        dataset = h5py.h5d.create(file.id, b"sentence", kind, h5py.h5s.create_simple((ROWS, WIDTH)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES["sentence"].astype("<f2"), mtype=kind)


def _other_shape(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plain(file, "sentence")
        file.create_dataset("sentence", data=np.zeros((ROWS + 1, WIDTH), "<f2"))


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
        plain(file, "sentence")
        file.create_dataset("sentence", (ROWS, WIDTH), "<f2")


TRICKS: dict[str, Trick] = {
    name.removeprefix("_"): made
    for name, made in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and callable(made)
}


def disguise(folder: Path, trick: Trick, secret: Path) -> Path:
    """Write a cache whose one shard of entity.text is the trick's file, and a manifest that fits it."""
    folder.mkdir(parents=True)
    key = "ab" * 32
    path = folder / f"entity.text-00000.{key[:12]}.h5"
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
    shard = {"part": "entity.text", "file": path.name, "start": 0, "rows": ROWS, "bytes": len(data), "key": key}
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
        "parts": {"entity.text": part},
        "shards": [shard],
        "provenance": {},
    }
    (folder / manifests.NAME).write_bytes(fingerprint.canonical(manifests.seal(content)) + b"\n")
    return folder


def _offset(path: Path, name: str) -> int | None:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file[name].id.get_offset()
    except (OSError, KeyError, AttributeError, RuntimeError, ValueError):
        return None
