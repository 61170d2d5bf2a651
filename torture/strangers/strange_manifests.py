"""Manifests that attack: sixty by name, and any number at random, all with digests that fit.

Each must be refused with a CacheError before a column is read, in little time and memory, and no file but the listed
ones may be opened.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache import fingerprint, manifests
from cache.reader import Reader
from common.errors import CacheError
from torture.processes import Report, apart
from torture.strangers.strange_files import MEMORY, SECONDS
from torture.tiny_cache import Result, build, fast_disk, put

PART, COLUMN = "entity.text", "sentence"
TRIES = 3
Change = Callable[[dict[str, Any]], object]


def shard(content: dict[str, Any]) -> dict[str, Any]:
    """Return the first shard of entity.text."""
    return _shards(content)[0]


def _shards(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the shards of entity.text."""
    return [shard for shard in content["shards"] if shard["part"] == PART]


def _part(content: dict[str, Any]) -> dict[str, Any]:
    return content["parts"][PART]


def _spec(content: dict[str, Any]) -> dict[str, Any]:
    return _part(content)["columns"][COLUMN]


def _place(content: dict[str, Any]) -> dict[str, Any]:
    return shard(content)["columns"][COLUMN]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _swap_keys(content: dict[str, Any]) -> None:
    first, second = _shards(content)[:2]
    first["file"], second["file"] = second["file"], first["file"]


# changes of a parsed manifest, which is then sealed anew
ATTACKS: dict[str, Change] = {
    "traversal": lambda m: shard(m).update(file="../" + shard(m)["file"]),
    "traversal inside": lambda m: shard(m).update(file="x/../" + shard(m)["file"]),
    "absolute path": lambda m: shard(m).update(file="/etc/passwd"),
    "a folder below": lambda m: shard(m).update(file="sub/" + shard(m)["file"]),
    "NUL in a file name": lambda m: shard(m).update(file=shard(m)["file"] + "\0"),
    "newline in a file name": lambda m: shard(m).update(file=shard(m)["file"] + "\n"),
    "the manifest as a shard": lambda m: shard(m).update(file=manifests.NAME),
    "an empty file name": lambda m: shard(m).update(file=""),
    "a huge file name": lambda m: shard(m).update(file="a" * 100_000),
    "a Windows path": lambda m: shard(m).update(file="C:\\" + shard(m)["file"]),
    "files of two shards exchanged": _swap_keys,
    "key of another shard": lambda m: shard(m).update(key="ff" * 32),
    "key in capitals": lambda m: shard(m).update(key=shard(m)["key"].upper()),
    "short sha256": lambda m: shard(m).update(sha256="ab"),
    "short xxh3": lambda m: _place(m).update(xxh3="ab"),
    "negative offset": lambda m: _place(m).update(offset=-8),
    "offset outside": lambda m: _place(m).update(offset=1 << 40),
    "huge offset": lambda m: _place(m).update(offset=1 << 70),
    "offset as float": lambda m: _place(m).update(offset=float(_place(m)["offset"])),
    "column reaches past the end": lambda m: _place(m).update(offset=shard(m)["bytes"] - 1),
    "overlap": lambda m: shard(m)["columns"]["truncated"].update(_place(m)),
    "overlap by a byte": lambda m: shard(m)["columns"]["truncated"].update(offset=_place(m)["offset"] + 1),
    "rows as bool": lambda m: shard(m).update(rows=True),
    "rows as float": lambda m: shard(m).update(rows=3.0),
    "zero rows": lambda m: shard(m).update(rows=0),
    "negative rows": lambda m: shard(m).update(rows=-3),
    "huge rows": lambda m: shard(m).update(rows=1 << 60),
    "rows that overflow 64 bits": lambda m: shard(m).update(rows=1 << 49) or m["tables"].update(entity=1 << 49),
    "a gap": lambda m: shard(m).update(start=1),
    "negative start": lambda m: shard(m).update(start=-3),
    "a missing shard": lambda m: m["shards"].remove(shard(m)),
    "no shards": lambda m: m["shards"].clear(),
    "no parts": lambda m: m["parts"].clear() or m["shards"].clear(),
    "a part without columns": lambda m: [each["columns"].clear() for each in (_part(m), *_shards(m))],
    "parts of two widths": lambda m: _spec(m).update(shape=[2]),
    "a shard twice": lambda m: m["shards"].append(shard(m)),
    "bytes as text": lambda m: shard(m).update(bytes="100"),
    "negative bytes": lambda m: shard(m).update(bytes=-1),
    "bytes of another file": lambda m: shard(m).update(bytes=1 << 30),
    "unknown part": lambda m: m["parts"].update({"entity.secret": _part(m)}),
    "unknown column": lambda m: _part(m)["columns"].update(evil={"dtype": "<f2", "shape": [3]}),
    "shard of no part": lambda m: shard(m).update(part="entity.joint"),
    "object type": lambda m: _spec(m).update(dtype="|O"),
    "a type with a length bomb": lambda m: _spec(m).update(dtype="|S999999999"),
    "big endian": lambda m: _spec(m).update(dtype=">f2"),
    "a type of records": lambda m: _spec(m).update(dtype="f2,f2"),
    "another type than the schema's": lambda m: _part(m)["columns"]["truncated"].update(dtype="|u1"),
    "huge shape": lambda m: _spec(m).update(shape=[1 << 24, 1 << 24, 1 << 24]),
    "negative shape": lambda m: _spec(m).update(shape=[-3]),
    "shape of zero": lambda m: _spec(m).update(shape=[0]),
    "shape of many axes": lambda m: _spec(m).update(shape=[1] * 100),
    "recipe changed": lambda m: _part(m)["recipe"].update(encoder="another"),
    "recipe nested too deep": lambda m: _part(m)["recipe"].update(encoder=_nested(50)),
    "fingerprint of the wrong type": lambda m: _part(m).update(fingerprint=5),
    "columns of the wrong type": lambda m: _part(m).update(columns=[1]),
    "part of the wrong type": lambda m: m["parts"].update({PART: 7}),
    "parts of the wrong type": lambda m: m.update(parts=[]),
    "shard of the wrong type": lambda m: m["shards"].insert(0, None),
    "shards of the wrong type": lambda m: m.update(shards={"0": shard(m)}),
    "place of the wrong type": lambda m: shard(m)["columns"].update({COLUMN: 3}),
    "part name of the wrong type": lambda m: shard(m).update(part=[PART]),
    "limits of the wrong type": lambda m: _place(m).update(min="0"),
    "control characters": lambda m: m["dataset"].update(name="a\x1b[31m"),
    "bidirectional controls": lambda m: m["dataset"].update(licence="\u202eCC0"),
    "half a surrogate pair": lambda m: m["dataset"].update(source="\ud800"),
    "a huge text": lambda m: m["warnings"].append("x" * 20_000),
    "an escape in a warning": lambda m: m["warnings"].append("\x1b]0;owned\x07"),
    "a warning of the wrong type": lambda m: m["warnings"].append({"text": "x"}),
    "an extra field": lambda m: m.update(extra=1),
    "a missing field": lambda m: m.pop("tables"),
    "a class to build": lambda m: _part(m).update({"__reduce__": ["os.system", "id"]}),
    "tables of the wrong type": lambda m: m.update(tables={"entity": "9", "mention": 6, "pair": 6}),
    "a table of no name": lambda m: m["tables"].update({"": 1}),
    "an empty table": lambda m: m["tables"].update(mention=0),
    "huge number of candidates": lambda m: m.update(candidates=1 << 80),
    "negative count": lambda m: m["coverage"].update(mentions=-1),
    "next version": lambda m: m.update(version=2),
    "version as text": lambda m: m.update(version="1"),
    "version as bool": lambda m: m.update(version=True),
    "another format": lambda m: m.update(format="zip"),
    "seconds as text": lambda m: m["provenance"].update(seconds="x"),
    "a whole cache of a path": lambda m: m["provenance"].update(of="../../../etc/passwd"),
}  # fmt: skip


def _filled(item: bytes, good: bytes = b'{"recipe":{') -> bytes:
    """Return a manifest with as many items in its first recipe as a reader takes."""
    separators = sum(item.count(sign) for sign in b"[]{},")
    count = (manifests.MAX_SIGNS - 10_000) // separators
    return good.replace(b'"recipe":{', b'"recipe":{"a":[' + item * count + b"0],", 1)


# bytes that are no manifest; of the honest one's
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "a list": lambda data: b"[]",
    "null": lambda data: b"null",
    "half": lambda data: data[: len(data) // 2],
    "two": lambda data: data + data,
    "a key twice": lambda data: data.replace(b'{"candidates":', b'{"candidates":1,"candidates":', 1),
    "NaN": lambda data: data.replace(b'"min":0', b'"min":NaN', 1),
    "infinity": lambda data: data.replace(b'"min":0', b'"min":-Infinity', 1),
    "a number beyond all floats": lambda data: data.replace(b'"min":0', b'"min":1e999', 1),
    "a number of many digits": lambda data: data.replace(b'"candidates":2', b'"candidates":' + b"9" * 100_000, 1),
    "deep lists": lambda data: b"[" * 100_000,
    "deep objects": lambda data: b'{"a":' * 100_000,
    "brackets in unclosed strings": lambda data: b'{"a":"' + b"[\\" * 100_000,
    "escaped quotes in an unclosed string": lambda data: b'{"a":"' + b'\\"' * 1_500_000,
    "no UTF-8": lambda data: b"\xff\xfe" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "blanks between": lambda data: data.replace(b",", b", "),
    "other line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "bytes behind it": lambda data: data + b"\0" * 1000,
    "more than it may have": lambda data: b" " * manifests.MAX_BYTES + data,
    "blanks": lambda data: b" " * (manifests.MAX_BYTES - len(data)) + data,
    "too many values": lambda data: b'{"x":[' + b"1," * (manifests.MAX_BYTES // 2 - 8) + b"0]}",
    "empty lists": lambda data: _filled(b"[],", data),
    "empty objects": lambda data: _filled(b"{},", data),
    "small objects": lambda data: _filled(b'{"a":{"b":1}},', data),
    "empty strings": lambda data: _filled(b'"",', data),
    "quotes": lambda data: b'"' * manifests.MAX_BYTES,
    "backslashes": lambda data: b'{"a":"' + b"\\" * (manifests.MAX_BYTES - 6),
    "floats": lambda data: _filled(b"1.5,", data),
    "huge integers": lambda data: _filled(b"9" * 30 + b",", data),
    "one text": lambda data: b'{"a":"' + b"a" * (manifests.MAX_BYTES - 8) + b'"}',
    "one text of wide characters": lambda data: ('{"a":"\U0001f600' + "a" * (manifests.MAX_BYTES - 12) + '"}').encode(),
    "keys": lambda data: data.replace(
        b'"recipe":{', b'"recipe":{' + b",".join(b'"%d":0' % i for i in range(manifests.MAX_SIGNS - 10_000)) + b",", 1
    ),
    "its digest changed": lambda data: data.replace(b'"digest":"', b'"digest":"0', 1),
}  # fmt: skip
PLACES = ("symlink", "fifo", "directory", "missing")


def run(scratch: Path, seed: int) -> Result:
    """Try every attack by name."""
    result, folder = Result("hostile manifests"), scratch / "cache"
    with fast_disk():
        build(folder, seed)
    path = folder / manifests.NAME
    good = path.read_bytes()
    for name, change in ATTACKS.items():
        content = json.loads(good)
        change(content)
        _judge(name, sealed(content), good, scratch, result)
    for name, made in BYTES.items():
        _judge(name, made(good), good, scratch, result)
    for place in PLACES:
        path.unlink()
        _put(place, path, scratch / "elsewhere.json", good)
        _refused(place, _opened(folder, scratch), folder, result)
        path.rmdir() if place == "directory" else path.unlink(missing_ok=True)
        put(path, good)
    if _open(folder):
        result.fail("the honest manifest is refused, so the attacks prove nothing")
    return result


def sealed(content: dict[str, Any]) -> bytes:
    """Return the bytes of a changed manifest's file, with a digest that fits where that can be."""
    try:
        return fingerprint.canonical(manifests.seal(content)) + b"\n"
    except (ValueError, TypeError):  # what cannot be sealed is attacked with as it is
        return json.dumps(content).encode()


def _put(place: str, path: Path, elsewhere: Path, good: bytes) -> None:
    elsewhere.write_bytes(good)
    if place == "symlink":
        path.symlink_to(elsewhere)
    elif place == "fifo":
        os.mkfifo(path)
    elif place == "directory":
        path.mkdir()


def _judge(name: str, data: bytes, good: bytes, scratch: Path, result: Result) -> None:
    folder = scratch / "cache"
    if data == good:
        result.fail(f"{name}: the attack changes nothing")
    put(folder / manifests.NAME, data)
    _refused(name, _opened(folder, scratch), folder, result)
    put(folder / manifests.NAME, good)


def _opened(folder: Path, scratch: Path) -> Report:
    """Open a cache in a process of its own; again if it took long, which may have been the machine."""
    reports = [apart(lambda: _open(folder), scratch)]
    while reports[-1].seconds > SECONDS and len(reports) < TRIES:
        reports.append(apart(lambda: _open(folder), scratch))
    return min(reports, key=lambda report: report.seconds)


def _open(folder: Path) -> str:
    """Return the line with which a cache is refused, "" where it opens."""
    try:
        Reader(folder)
    except CacheError as error:
        return str(error)
    return ""


def _refused(name: str, report: Report, folder: Path, result: Result) -> None:
    result.case()
    result.most("ms of the slowest", round(1000 * report.seconds))
    result.most("MB of the largest", report.memory >> 20)
    if report.status or not report.answer or "\n" in report.answer:
        result.fail(f"{name}: status {report.status}, said {report.answer!r}")
    elif report.seconds > SECONDS or report.memory > MEMORY:
        result.fail(f"{name}: took {report.seconds:.1f} s and {report.memory >> 20} MB")
    elif foreign := set(report.opened) - {str(folder / manifests.NAME)}:
        result.fail(f"{name}: opened {foreign}")


def mutate(scratch: Path, count: int, seed: int) -> Result:
    """Change manifests at random, sealing them anew: each is refused with a CacheError or reads only its own files."""
    result, rng, folder = Result("manifest mutations"), random.Random(seed), scratch / "cache"
    with fast_disk():
        build(folder, seed)
    path = folder / manifests.NAME
    good = path.read_bytes()
    while result.tried < count:
        content = json.loads(good)
        what = mutation(content, rng)
        try:
            data = fingerprint.canonical(manifests.seal(content)) + b"\n"
        except (ValueError, TypeError, AttributeError):
            continue
        put(path, data)
        result.case()
        try:
            reader = Reader(folder)
            reader.load(reader.columns)
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


def mutation(content: Any, rng: random.Random) -> str:
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
