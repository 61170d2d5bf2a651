"""The files of a run folder, each read as if a stranger had written it.  No torch here.

Only regular files are opened, never through a link, and what one claims is compared with its size before any of it is
read. A tensor file is one of safetensors whose header holds, beside the tensors, JSON texts as metadata: `about`, the
run's identity; `what`, a description; `sums`, the xxh3-128 of each tensor's bytes; and `digest`, the sha256 of all
this. A JSON file has the sha256 of its other fields in `digest`.
"""

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import fingerprint, manifests, store
from cache.store import lacking
from common import paths
from common.errors import CacheError, ConfigError, DeniedError

RESULTS, CURVES, UNFINISHED = "results.json", "metrics.jsonl", "unfinished.safetensors"
SEED = re.compile(r"seed-(0|[1-9][0-9]{0,18})\.safetensors")
RANKS = re.compile(r"ranks-(0|[1-9][0-9]{0,18})\.safetensors")
SCORES = re.compile(r"scores-(0|[1-9][0-9]{0,18})\.safetensors")
MAX_JSON = 64 << 20  # bytes; 100 seeds of 500 epochs have 30 MB
MAX_SIGNS = 1 << 21  # brackets and commas: a value takes a hundred bytes once it is parsed
MAX_RANK = 8
MAX_TENSORS = 20_000  # of a folder's unfinished seeds: moments and weights of each
STRANGE = (errno.ENOENT, errno.ENXIO)  # what opening says of no file, of a socket
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
NUMBERS = {"I32": np.int32, "F32": np.float32, "I64": np.int64, "F64": np.float64}  # of what is mapped
TEXTS = ("about", "what", "sums")

Layout = Mapping[str, tuple[str, tuple[int, ...]]]  # type, as safetensors names it, and shape of each tensor by name


class UnreadableError(ConfigError):
    """A file of a run folder that is not what it should be; the message names it."""


def names(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Return what in a folder is named so, by the number in its name; of no folder nothing.  Raises DeniedError."""
    matches = [(pattern.fullmatch(name), name) for name in paths.names(folder)]
    return {int(match[1]): folder / name for match, name in matches if match}


def remove(path: Path) -> None:
    """Remove a file or a link, if there is one.  Raises ConfigError for a directory, and where it may not."""
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as error:
        raise ConfigError(f"cannot remove {path}: {error.strerror}. Remove it, or take another --run") from None


def sealed(found: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON file with the digest that `read_json` compares."""
    return found | {"digest": fingerprint.digest(found)}


def written(found: dict[str, Any]) -> bytes:
    """Return the bytes of a JSON file."""
    return json.dumps(found, indent=1, allow_nan=False).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the `sealed` object in a JSON file, None if there is no such file.  Raises ConfigError."""
    if not paths.exists(path):
        return None
    with naming(path):
        data = store.read_regular(path, MAX_JSON)
        found = manifests.parse(data, "it", signs=MAX_SIGNS)
        if data != written(sealed({name: value for name, value in found.items() if name != "digest"})):
            raise ConfigError("it was changed after it was written: its digest does not match")
    return found


@dataclass(frozen=True)
class Stored:
    """Where a tensor's bytes lie, and their checksum."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    stop: int
    checksum: str


class TensorFile:
    """An open tensor file: its identity `about`, its description `what`, and `stored`, its tensors by name."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        size = os.fstat(descriptor).st_size
        length = int.from_bytes(self._read(0, min(8, size)), "little")
        if not 2 <= length <= min(MAX_JSON, size - 8):
            raise ConfigError("it has no header of safetensors, or was cut short")
        header = _parsed(self._read(8, 8 + length))
        metadata = header.pop("__metadata__", None)
        if not isinstance(metadata, dict) or not all(
            isinstance(metadata.get(name), str) for name in (*TEXTS, "digest")
        ):
            raise ConfigError("it has no metadata of a checkpoint, or of an older melcache")
        layout = _layout(header)
        if metadata["digest"] != _digest(metadata, layout):
            raise ConfigError("its header was changed after it was written: its digest does not match")
        self.about, self.what, sums = (_parsed(metadata[name].encode("utf-8", "surrogatepass")) for name in TEXTS)
        self.stored = {
            name: Stored(*layout[name], 8 + length + begin, 8 + length + stop, str(sums.get(name)))
            for name, (begin, stop) in _places(header, layout, size - 8 - length).items()
        }

    @property
    def layout(self) -> Layout:
        """Type and shape of each tensor by name."""
        return {name: (tensor.dtype, tensor.shape) for name, tensor in self.stored.items()}

    def bytes_of(self, name: str) -> np.ndarray:
        """Return a tensor's bytes, uint8 (n,), in memory of their own.  Raises ConfigError if they have changed."""
        tensor = self.stored[name]
        found = self._read(tensor.begin, tensor.stop)
        if fingerprint.checksum(found) != tensor.checksum:
            raise ConfigError(f"the numbers of {name} are not those that were written: their checksum differs")
        return np.frombuffer(found, np.uint8)

    def mapped(self, name: str) -> np.ndarray:
        """Return a tensor of 32 or 64 bits as an array that maps the file.

        Raises ConfigError if there is none of that name, or if its bytes have changed.
        """
        tensor = self.stored.get(name)
        if tensor is None or tensor.dtype not in NUMBERS:
            raise ConfigError(f"it lacks {name}, or has it of another type than {', '.join(NUMBERS)}")
        if tensor.begin == tensor.stop:
            return np.zeros(tensor.shape, NUMBERS[tensor.dtype])
        held = np.frombuffer(lacking.mapped(self._descriptor, tensor.stop), np.uint8)[tensor.begin :]
        if fingerprint.checksum(held) != tensor.checksum:
            raise ConfigError(f"the numbers of {name} are not those that were written: their checksum differs")
        found: np.ndarray = held.view(NUMBERS[tensor.dtype]).reshape(tensor.shape)
        return found

    def verify(self) -> None:
        """Raise ConfigError unless all tensors are as they were written."""
        for name in self.stored:
            self.bytes_of(name)

    def _read(self, begin: int, stop: int) -> bytearray:
        found = bytearray(stop - begin)
        target = memoryview(found)
        while target:
            count = os.preadv(self._descriptor, [target], stop - len(target))
            if count == 0:
                raise ConfigError("it was cut short while it was read")
            target = target[count:]
        return found


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Yield a tensor file.  Raises ConfigError for anything else, also while it is read in the block."""
    with naming(path, "a checkpoint of melcache"), store.open_regular(path) as descriptor:
        yield TensorFile(path, descriptor)


def metadata(
    about: Mapping[str, Any], what: Mapping[str, Any], layout: Layout, sums: Mapping[str, str]
) -> dict[str, str]:
    """Return the metadata of a tensor file of that layout, whose tensors have these checksums."""
    texts = {name: json.dumps(value) for name, value in (("about", about), ("what", what), ("sums", sums))}
    return texts | {"digest": _digest(texts, layout)}


@contextlib.contextmanager
def naming(path: Path, wanted: str = "what melcache wrote") -> Iterator[None]:
    """Name the file in what is wrong with it, and the way out."""
    try:
        yield
    except UnreadableError:
        raise
    except (ConfigError, CacheError) as error:
        cause = error.__cause__
        other = isinstance(cause, OSError) and cause.errno not in STRANGE
        if other or isinstance(error, DeniedError):  # the disk or the rights are at fault, or it is a link
            raise UnreadableError(str(error)) from None
        lost = isinstance(cause, OSError) and cause.errno == errno.ENOENT
        state = "missing" if lost else f"not {wanted} ({error})"
        raise UnreadableError(f"{path} is {state}. {_way_out(path)}") from None
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}") from None


def _way_out(path: Path) -> str:
    if SCORES.fullmatch(path.name):
        return "Remove it: whatever reads it computes its numbers anew from the weights"
    if path.name == RESULTS:
        return "Remove it, and train again with the same options, which writes it anew from the finished seeds"
    if of := SEED.fullmatch(path.name) or RANKS.fullmatch(path.name):  # ranks come with the training of their seed
        both = f"seed-{of[1]}.safetensors and ranks-{of[1]}.safetensors"
        which = f"Remove {both}, and train again with the same options, which trains seed {of[1]} alone"
    else:
        which = "Remove it, and train again with the same options"
    return f"{which}; or train all anew with --fresh"


def _digest(texts: Mapping[str, str], layout: Layout) -> str:
    return fingerprint.digest([*(texts[name] for name in TEXTS), {name: list(spec) for name, spec in layout.items()}])


def _parsed(data: bytes | bytearray) -> dict[str, Any]:
    if b"\0" in data:  # it may be no other encoding than UTF-8, whose bounds are checked
        raise ConfigError("its header is not JSON")
    return manifests.parse(bytes(data), "its header", signs=MAX_SIGNS, ascii_only=False)


def _layout(header: Mapping[str, Any]) -> Layout:
    """Return type and shape of each tensor that a header names."""
    if len(header) > MAX_TENSORS:
        raise ConfigError(f"its header names {len(header):,} tensors, which no checkpoint has")
    found = {}
    for name, spec in header.items():
        if not isinstance(spec, dict) or spec.keys() != {"dtype", "shape", "data_offsets"} or not _is_text(name):
            raise ConfigError("its header is not one of safetensors")
        dtype, shape = spec["dtype"], spec["shape"]
        if not isinstance(dtype, str) or dtype not in SIZES or not _is_counts(shape) or len(shape) > MAX_RANK:
            raise ConfigError("its header names a type or a shape that no checkpoint has")
        found[name] = (dtype, tuple(shape))
    return found


def _places(header: Mapping[str, Any], layout: Layout, size: int) -> dict[str, tuple[int, int]]:
    """Return where each tensor begins and ends; they must fill the `size` bytes behind the header, each its own."""
    places = {}
    for name, (dtype, shape) in layout.items():
        place = header[name]["data_offsets"]
        if not _is_counts(place) or len(place) != 2 or place[1] - place[0] != SIZES[dtype] * math.prod(shape):
            raise ConfigError("its header says of a tensor a place that does not fit its shape")
        places[name] = (place[0], place[1])
    end = 0
    for begin, stop in sorted(places.values()):
        if begin != end:
            raise ConfigError("its tensors overlap, or leave a gap")
        end = stop
    if end != size:
        raise ConfigError(f"its header says {end:,} bytes of tensors, it has {size:,}: copied only in part?")
    return places


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 50 for n in value)


def _is_text(value: str) -> bool:
    return len(value) <= 300 and value.isprintable()
