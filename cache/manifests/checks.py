"""What is checked of a manifest that a stranger may have written: its text, and that its fields fit each other."""

import json
import math
import re
from typing import Any

import numpy as np

from cache import fingerprint
from cache.kinds import quantizable
from cache.manifests import fields
from cache.manifests.fields import check_fields
from cache.names import PartName
from cache.quantized import READ_TYPE, SCALE, SCALE_TYPE, TYPES, kind_of, stored
from cache.schema import PARTS, VERSION
from common.errors import CacheError

MAX_SIGNS = 3 << 17  # brackets and commas; a shard has at most fifty
MAX_DEPTH = 8
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # one that nothing closes takes all the rest
_INSIDE = bytes(set(range(256)) - set(b"[]{},"))  # all but what separates values


def parse(data: bytes, where: str, *, signs: int = 0, ascii_only: bool = True) -> dict[str, Any]:
    """Parse strictly: no duplicate keys, no NaN, no infinity, bounded depth and size.  Raises CacheError.

    The bounds are checked on the text: a value of two bytes takes a hundred once it is parsed. `signs` is another
    bound of brackets and commas than a manifest's.
    """
    signs = signs or MAX_SIGNS
    if (ascii_only and not data.isascii()) or data.count(b'"') > 4 * signs:
        raise CacheError(f"{where} is not the JSON that melcache writes, or too large")
    outside = _STRING.sub(b"", data).translate(None, _INSIDE)
    if len(outside) > signs:
        raise CacheError(f"{where} has more than {signs:,} brackets and commas")
    depth = 0
    for byte in outside:
        depth += (byte in b"[{") - (byte in b"]}")
        if depth > MAX_DEPTH:
            raise CacheError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{where} is not the JSON that melcache writes: {error}") from error
    if not isinstance(value, dict):
        raise CacheError(f"{where} holds a {type(value).__name__}, not an object")
    return value


def check(manifest: dict[str, Any], where: str) -> None:
    """Raise CacheError unless every field has its type and range and every column lies inside its file."""
    version = manifest.get("version")
    if manifest.get("format") != "melcache" or type(version) is not int:
        raise CacheError(f"{where} is not a melcache manifest")
    if version != VERSION:
        raise CacheError(f"{where} has format version {version}, this melcache reads {VERSION}: update melcache")
    check_fields(manifest, fields.MANIFEST, where, fields.MORE)
    for name, part in manifest["parts"].items():
        check_fields(part, fields.PART, f"{where}: parts")
        if not part["columns"]:
            raise CacheError(f"{where}: part {name!r} has no column")
        if name not in PARTS or not set(part["columns"]) <= set(PARTS[name]) | _scales(part):
            raise CacheError(f"{where}: part {name!r} or one of its columns is not in the schema")
        if part["fingerprint"] != fingerprint.digest({"recipe": part["recipe"], "inputs": part["inputs"]}):
            raise CacheError(f"{where}: part {name}: its fingerprint is not that of its recipe")
        for column, spec in part["columns"].items():
            check_fields(spec, fields.SPEC, f"{where}: column {name}.{column}", fields.WIDTH)
        for column in filter(PARTS[name].get, part["columns"]):
            _check_column(manifest, name, column, f"{where}: column {name}.{column}")
    _check_widths(manifest["parts"], where)
    for shard in manifest["shards"]:
        check_fields(shard, fields.SHARD, f"{where}: shards")
        _check_shard(shard, manifest["parts"], where)
    _check_rows(manifest, where)


def _check_column(manifest: dict[str, Any], part: str, name: str, where: str) -> None:
    wanted, columns = PARTS[part][name], manifest["parts"][part]["columns"]
    spec = columns[name]
    if "width" in spec:
        if not _are_codes(part, name, columns):
            raise CacheError(
                f"{where}: expected codes of vectors, {' or '.join(TYPES.values())}, as wide as its width says, and "
                f"{name}{SCALE}, {SCALE_TYPE}, one scale a vector"
            )
        spec = {"dtype": READ_TYPE, "shape": _read_shape(spec)}
    kinds = {"feature": ("<f2", "<f4"), "S": (spec["dtype"],) if spec["dtype"].startswith("|S") else ()}
    axes = [{"4": 4, "*": 32, "C": manifest["candidates"]}.get(axis) for axis in wanted.axes]
    if spec["dtype"] not in kinds.get(wanted.dtype, (wanted.dtype,)) or len(axes) != len(spec["shape"]):
        raise CacheError(f"{where}: type or shape is not the schema's")
    if any(size not in (None, found) for size, found in zip(axes, spec["shape"], strict=True)):
        raise CacheError(f"{where}: shape {spec['shape']} does not fit the schema or the number of candidates")


def _are_codes(part: str, name: str, columns: dict[str, Any]) -> bool:
    """Whether type, shape and scales of a column with a width are those of codes that melcache makes."""
    spec = columns[name]
    if name not in quantizable(part) or spec["dtype"] not in TYPES.values() or not spec["shape"]:
        return False
    wanted = stored(name, kind_of(spec["dtype"]), tuple(_read_shape(spec)))
    found = {column: columns.get(column, {}) for column in wanted}
    found[name] = {field: value for field, value in spec.items() if field != "width"}
    return found == {column: {"dtype": dtype, "shape": list(shape)} for column, (dtype, shape) in wanted.items()}


def _read_shape(spec: dict[str, Any]) -> list[int]:
    """Return the shape of what is read of a column, after the row axis."""
    return [*spec["shape"][:-1], spec["width"]] if "width" in spec else spec["shape"]


def _scales(entry: dict[str, Any]) -> set[str]:
    """Return the names of the scales that belong to columns of codes."""
    return {name + SCALE for name, spec in entry["columns"].items() if isinstance(spec, dict) and "width" in spec}


def _check_widths(parts: dict[str, Any], where: str) -> None:
    """Raise CacheError where two columns have another number of what one letter of the schema stands for."""
    widths: dict[str, tuple[int, str]] = {}
    for name, part in parts.items():
        for column, spec in part["columns"].items():
            if column not in PARTS[name]:
                continue  # scales
            for axis, size in zip(PARTS[name][column].axes, _read_shape(spec), strict=True):
                letter = f"{axis} of {PartName(name).table}" if axis == "K" else axis  # imported entities have fewer
                first, other = widths.setdefault(letter, (size, f"{name}.{column}"))
                if first != size:
                    raise CacheError(
                        f"{where}: column {name}.{column} has {letter} = {size}, and {other} has {first}: parts of "
                        "different caches? Get it again"
                    )


def _check_shard(shard: dict[str, Any], parts: dict[str, Any], where: str) -> None:
    here = f"{where}: {shard['file']}"
    columns = parts.get(shard["part"], {}).get("columns")
    if columns is None or set(columns) != set(shard["columns"]):
        raise CacheError(f"{here}: its part is not listed, or its columns are not those of its part")
    if re.fullmatch(rf"{re.escape(shard['part'])}-[0-9]{{5,}}\.{shard['key'][:12]}\.h5", shard["file"]) is None:
        raise CacheError(f"{here}: the file name does not fit its part and key")
    taken = []
    for name, place in shard["columns"].items():
        check_fields(place, fields.PLACE, f"{here}: column {name}")
        dtype = np.dtype(columns[name]["dtype"])
        taken.append((place["offset"], place["offset"] + shard["rows"] * dtype.itemsize * _product(columns[name])))
    taken.sort()
    ends = [0, *(end for _, end in taken)]
    if any(start < end for (start, _), end in zip(taken, ends, strict=False)) or ends[-1] > shard["bytes"]:
        raise CacheError(f"{here}: columns overlap or reach past the end of the file")


def _check_rows(manifest: dict[str, Any], where: str) -> None:
    tables = manifest["tables"]
    for part in manifest["parts"]:
        shards = [shard for shard in manifest["shards"] if shard["part"] == part]
        if not shards:
            raise CacheError(f"{where}: part {part} has no shard")
        following = 0
        for shard in shards:
            if shard["start"] != following:
                raise CacheError(f"{where}: {shard['file']} starts at row {shard['start']}, not at {following}")
            following += shard["rows"]
        table = PartName(part).table
        if following != tables.get(table):
            raise CacheError(f"{where}: part {part} has {following} rows, table {table} has {tables.get(table)}")
    grown = manifest.get("generations")
    if grown is not None:
        ends = [list(column) for column in zip(*grown, strict=True)]
        if [end[-1] for end in ends] != [tables["entity"], tables["mention"]] or any(
            end != sorted(end) for end in ends
        ):
            raise CacheError(f"{where}: generations {grown} do not count up to the rows of the tables")
    files = [shard["file"] for shard in manifest["shards"]]
    if len(set(files)) != len(files):
        raise CacheError(f"{where}: a file is listed twice")


def _product(spec: dict[str, Any]) -> int:
    product = 1
    for axis in spec["shape"]:
        product *= axis
    return product


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")
