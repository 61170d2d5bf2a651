"""Number types that are not what they seem: of the size and kind of ours, but with other signs, bits, pads or names.

numpy calls many of them `<f2` or `bool`. What the gate lets pass, h5py must read as melcache does.
"""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5t

from cache.checks import hdf5_gate
from torture.tiny_cache import Result, put

ROWS = 5
COLUMNS = {"half": "<f2", "single": "<f4", "index": "<i4", "code": "|u1", "flag": "|b1", "name": "|S6"}
VALUES = {
    "half": np.array([1.5, -2, 0.25, 1e-5, 3], "<f2"),
    "single": np.array([1.5, -2, 0.25, 1e-40, 3], "<f4"),
    "index": np.array([1, -1, 70_000, 0, 2**31 - 1], "<i4"),
    "code": np.array([1, 2, 200, 255, 0], "|u1"),
    "flag": np.array([1, 0, 1, 1, 0], "|b1"),
    "name": np.array([b"a", b"b  ", b"", b"\xc3\xa9", b"abcdef"], "|S6"),
}
OTHERWISE = "h5py reads"
Kind = Any  # an HDF5 type


def _float(size: int, change: Callable[[Kind], object]) -> Kind:
    kind = (h5t.IEEE_F16LE if size == 2 else h5t.IEEE_F32LE).copy()
    change(kind)
    return kind


def _integer(kind: Kind, precision: int, offset: int = 0) -> Kind:
    found = kind.copy()
    found.set_precision(precision)
    found.set_offset(offset)
    return found


def _names(base: Kind, **members: int) -> Kind:
    found = h5t.enum_create(base)
    for name, value in members.items():
        found.enum_insert(name.encode(), value)
    return found


def _text(charset: int, pad: int) -> Kind:
    found = h5t.C_S1.copy()
    found.set_size(6)
    found.set_cset(charset)
    found.set_strpad(pad)
    return found


def _narrow(kind: Kind) -> None:
    kind.set_fields(11, 6, 5, 0, 6)
    kind.set_precision(12)


# column: what it is stored as, by name; all of the column's own size
FOREIGN: dict[str, dict[str, Callable[[], Kind]]] = {
    "half": {
        "sign bit below": lambda: _float(2, lambda kind: kind.set_fields(0, 11, 5, 1, 10)),
        "no implied one": lambda: _float(2, lambda kind: kind.set_norm(h5t.NORM_NONE)),
        "first bit stored": lambda: _float(2, lambda kind: kind.set_norm(h5t.NORM_MSBSET)),
        "twelve bits": lambda: _float(2, _narrow),
        "another bias": lambda: _float(2, lambda kind: kind.set_ebias(14)),
        "bfloat16": lambda: _float(2, lambda kind: kind.set_fields(15, 7, 8, 0, 7)),
        "padded with ones": lambda: _float(2, lambda kind: kind.set_pad(h5t.PAD_ONE, h5t.PAD_ONE)),
        "padded with ones inside": lambda: _float(2, lambda kind: kind.set_inpad(h5t.PAD_ONE)),
        "big endian": lambda: h5t.IEEE_F16BE,
        "an integer": lambda: h5t.STD_I16LE,
    },
    "single": {
        "sign bit below": lambda: _float(4, lambda kind: kind.set_fields(0, 24, 8, 1, 23)),
        "another bias": lambda: _float(4, lambda kind: kind.set_ebias(126)),
        "no implied one": lambda: _float(4, lambda kind: kind.set_norm(h5t.NORM_NONE)),
        "big endian": lambda: h5t.IEEE_F32BE,
    },
    "index": {
        "24 bits": lambda: _integer(h5t.STD_I32LE, 24),
        "16 bits in the midst": lambda: _integer(h5t.STD_I32LE, 16, 8),
        "unsigned": lambda: h5t.STD_U32LE,
        "big endian": lambda: h5t.STD_I32BE,
        "a date": lambda: h5t.UNIX_D32LE,
    },
    "code": {
        "four bits": lambda: _integer(h5t.STD_U8LE, 4),
        "four bits above": lambda: _integer(h5t.STD_U8LE, 4, 4),
        "signed": lambda: h5t.STD_I8LE,
        "a bit field": lambda: h5t.STD_B8LE,
    },
    "flag": {
        "true is false": lambda: _names(h5t.STD_I8LE, FALSE=1, TRUE=0),
        "other names": lambda: _names(h5t.STD_I8LE, NO=0, YES=1),
        "a third member": lambda: _names(h5t.STD_I8LE, FALSE=0, TRUE=1, PERHAPS=2),
        "unsigned": lambda: _names(h5t.STD_U8LE, FALSE=0, TRUE=1),
        "big endian": lambda: _names(h5t.STD_I8BE, FALSE=0, TRUE=1),
        "an integer": lambda: h5t.STD_I8LE,
    },
    "name": {
        "ASCII": lambda: _text(h5t.CSET_ASCII, h5t.STR_NULLPAD),
        "padded with blanks": lambda: _text(h5t.CSET_UTF8, h5t.STR_SPACEPAD),
        "ended by zero": lambda: _text(h5t.CSET_UTF8, h5t.STR_NULLTERM),
        "opaque": lambda: h5t.create(h5t.OPAQUE, 6),
    },
}


def run(scratch: Path, count: int, seed: int) -> Result:
    """Store each column as each foreign type, which is refused, and as `count` random ones: refused, or read alike."""
    result, rng, path = Result("number types"), random.Random(seed), scratch / "types.h5"
    scratch.mkdir(parents=True, exist_ok=True)
    if found := _judged(path, {}):
        result.fail(f"an honest file is refused, so the types prove nothing: {found}")
    for column, kinds in FOREIGN.items():
        for name, made in kinds.items():
            result.case()
            if not _judged(path, {column: made()}):
                result.fail(f"{column} as {name} is let pass")
    while result.tried < count:
        column = rng.choice(("half", "single", "index", "code"))
        try:
            kind = _random(column, rng)
        except (ValueError, TypeError):  # no such type
            continue
        result.case()
        found = _judged(path, {column: kind})
        result.count("refused" if found else "passed")
        if found.startswith(OTHERWISE):
            result.fail(f"case {result.tried}, {column}: {found}")
    return result


def unlike(path: Path, columns: dict[str, Any]) -> str:
    """Return which column of a file that the gate has let pass h5py reads otherwise than melcache, "" if none."""
    data = path.read_bytes()
    with h5py.File(path, "r", locking=False) as file:
        for name, (dtype, shape, offset) in columns.items():
            ours = np.frombuffer(data, dtype, int(np.prod(shape)), offset)
            try:
                theirs = file[name][()]
            except (OSError, TypeError, ValueError) as error:
                return f"{OTHERWISE} nothing of {name}: {error}"
            if theirs.dtype != ours.dtype or theirs.tobytes() != ours.tobytes():
                return f"{OTHERWISE} other values of {name}"
    return ""


def _judged(path: Path, kinds: dict[str, Kind]) -> str:
    """Return why a file whose columns are stored as these types is refused; or what h5py reads, if it is otherwise."""
    columns = _write(path, kinds)
    return hdf5_gate.problem(path, columns) or unlike(path, columns)


def _write(path: Path, kinds: dict[str, Kind]) -> dict[str, Any]:
    """Write the values' bytes as columns of these types, else of ours; return what the gate is told of them."""
    buffer, space = io.BytesIO(), h5py.h5s.create_simple((ROWS,))
    columns: dict[str, Any] = {}
    with h5py.File(buffer, "w", libver="v110") as file:
        for name, dtype in COLUMNS.items():
            kind = kinds.get(name) or hdf5_gate.stored(h5py, dtype)
            dataset = h5py.h5d.create(file.id, name.encode(), kind, space)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES[name], mtype=kind)
            columns[name] = [dtype, [ROWS], dataset.get_offset()]
    put(path, buffer.getvalue())
    return columns


def _random(column: str, rng: random.Random) -> Kind:
    """Return a type of the column's size with a field or two changed, which may be our own again."""
    kind = hdf5_gate.stored(h5py, COLUMNS[column]).copy()
    bits = 8 * kind.get_size()
    if kind.get_class() == h5t.INTEGER:
        kind.set_precision(rng.choice((bits, bits, rng.randint(1, bits))))
        kind.set_offset(rng.randint(0, bits - kind.get_precision()))
        return kind
    sign, exponent, size, mantissa, rest = kind.get_fields()
    change = rng.choice(("fields", "bias", "norm", "order", "none"))
    if change == "fields":
        size += rng.randint(-2, 2)
        rest = bits - 1 - size
        sign, exponent, mantissa = rng.choice(((bits - 1, rest, 0), (0, rest + 1, 1), (rest, rest + 1, 0)))
        kind.set_fields(sign, exponent, size, mantissa, rest)
    elif change == "bias":
        kind.set_ebias(kind.get_ebias() + rng.randint(-3, 3))
    elif change == "norm":
        kind.set_norm(rng.choice((h5t.NORM_IMPLIED, h5t.NORM_MSBSET, h5t.NORM_NONE)))
    elif change == "order":
        kind.set_order(rng.choice((h5t.ORDER_LE, h5t.ORDER_BE)))
    return kind
