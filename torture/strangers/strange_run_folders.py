"""Rot and strangers in a run folder: every change of a file is found, or the file says the same."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from cache import fingerprint
from common.errors import ConfigError
from torture.machines.bit_rot import OTHERS, flip
from torture.tiny_cache import Result, put
from train.run_folder import run_files, run_schema

SEED, RANKS, SCORES = "seed-0.safetensors", "ranks-0.safetensors", "scores-0.safetensors"
VALUES = ("x", "\x1b[2J", None, -1, 0.5, True, [], {}, [[]], {"seed": 0}, 10**40, 1e300)


def run(scratch: Path, count: int, seed: int) -> Result:
    """Flip `count` bits of a run folder's files, do a fifth as many other damages, and write as many other values."""
    result, rng = Result("run folders"), random.Random(seed)
    good = _files(scratch, rng)
    changes = [flip] * count + [other for other in OTHERS for _ in range(count // 20)]
    for change in changes:
        path = rng.choice(list(good))
        bad = change(good[path], rng)
        if bad != good[path]:
            _damaged(path, bad, change.__name__, result)
            put(path, good[path])
    for _ in range(count // 5):
        _told(scratch, rng, result)
    return result


def _files(folder: Path, rng: random.Random) -> dict[Path, bytes]:
    """Write one file of each kind; return their bytes."""
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    weights = {"mention_text.weight": numbers.normal(size=(5, 4)).astype("f4"), "weight": np.float32(0.5)[None]}
    half = {f"best.0.{name}": values for name, values in weights.items()} | {"random": np.arange(99, dtype="u1")}
    ranks = {"rows": np.arange(7), "better": np.zeros(7, np.int64), "tied": np.ones(7, np.int64)}
    scores = {"test.rows": np.arange(7), "test.scores": numbers.normal(size=(7, 4)).astype("f4")}
    for name, tensors, what in (
        (SCORES, scores, {"seed": 0}),
        (SEED, weights, seed_result()),
        (RANKS, ranks, {"seed": 0}),
        (run_files.UNFINISHED, half, half_done()),
    ):
        (folder / name).write_bytes(tensor_file(tensors, what))
    (folder / run_files.RESULTS).write_bytes(run_files.written(run_files.sealed(results())))
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


def tensor_file(tensors: dict[str, np.ndarray], what: dict[str, Any]) -> bytes:
    """Return the bytes of a tensor file, as training writes it."""
    types = {"float32": "F32", "int64": "I64", "uint8": "U8"}
    layout = {name: (types[values.dtype.name], values.shape) for name, values in tensors.items()}
    sums = {name: fingerprint.checksum(values.tobytes()) for name, values in tensors.items()}
    about = {"model": "drin", "cache_id": "a" * 64, "split": "c" * 64, "valid_from": None, "code": "b" * 16}
    about |= {"with_lexical": False, "drin.width": 4}
    return save(tensors, run_files.metadata(about, what, layout, sums))


def metrics() -> dict[str, float]:
    """Return the metrics of a split."""
    return dict.fromkeys(run_schema.METRICS, 0.5) | {"mean_rank": 1.5, "mentions": 7.0, "ambiguous": 3.0}


def seed_result() -> dict[str, Any]:
    """Return the result of a seed."""
    history = [{"epoch": epoch, "loss": 0.25, "valid": metrics()} for epoch in (1, 2)]
    ties = {"optimistic": metrics(), "pessimistic": metrics()}
    told = {"seed": 0, "epoch": 2, "valid": metrics(), "test": metrics(), "ties": ties}
    return told | {"seconds": 0.5, "history": history}


def half_done() -> dict[str, Any]:
    """Return what is known of a seed half done."""
    history = seed_result()["history"]
    return {"seeds": [0], "epoch": 2, "seconds": 0.5, "history": [history], "best_epoch": [1], "untrained": [None]}


def results() -> dict[str, Any]:
    """Return the content of results.json."""
    by_split = {"valid": metrics(), "test": metrics()}
    kept = {"model": "drin", "name": "drin", "dataset": "toy", "protocol": "A retrieved", "watched": "A retrieved"}
    kept |= {"ranked": "list", "tie_rule": "expected", "cache_id": "a" * 64, "warnings": [], "candidates": 4}
    kept |= {"entities": 20, "recall_ceiling": {"valid": 1.0, "test": 1.0}, "lexical": by_split, "mean": by_split}
    kept |= {"std": by_split, "ties": seed_result()["ties"], "seeds": [seed_result()], "seconds": 0.5}
    kept |= {"split": {"digest": "c" * 64, "known": None, "valid_from": "train:0.1"}}
    kept |= {"unlabeled": {"train": 0, "valid": 0, "test": 3}}
    sure = dict.fromkeys(run_schema.CONFIDENCE, 0.5)
    kept |= {"confidence": {"seeds": [sure | {"seed": 0, "risk_coverage": [[0.5, 0.25], [1.0, 0.5]]}], "mean": sure}}
    return kept | {"config": {"dataset": "toy", "shards": "shards"}}


def _damaged(path: Path, bad: bytes, kind: str, result: Result) -> None:
    """Note whether a damaged file is read as if nothing had happened."""
    put(path, bad)
    result.case()
    result.count(kind)
    try:
        _read(path)
    except ConfigError as error:
        if path.name not in str(error) or "\n" in str(error):
            result.fail(f"{kind} {result.tried}: {error}")
    else:
        result.fail(f"{kind} {result.tried} in {path.name}: not detected")


def _read(path: Path) -> None:
    if path.name == run_files.RESULTS:
        run_files.read_json(path)
        return
    with run_files.open_tensors(path) as file:
        file.verify()


CHECKS: tuple[tuple[Callable[[], dict[str, Any]], Callable[[Any], Any]], ...] = (
    (results, run_schema.results),
    (seed_result, run_schema.seed_result),
    (half_done, run_schema.half_done),
)


def _told(scratch: Path, rng: random.Random, result: Result) -> None:
    """Write another value somewhere, with a digest that fits: it is refused in a line, or of the same type."""
    make, check = rng.choice(CHECKS)
    value = make()
    holder, name = _place(value, rng)
    before, holder[name] = holder[name], copy.deepcopy(rng.choice(VALUES))
    result.case()
    result.count("other values")
    path = scratch / "told.json"
    path.write_bytes(run_files.written(run_files.sealed(value)))
    try:
        check(run_files.read_json(path))
    except ConfigError as error:
        if "\n" in str(error):
            result.fail(f"{name}: {error}")
        return
    kinds = {type(before), type(holder[name])}
    if json.dumps(before) != json.dumps(holder[name]) and kinds not in ALIKE and (name, kinds) not in EITHER:
        result.fail(f"{make.__name__}: {name} may be {holder[name]!r} in place of {before!r}")


EITHER = (  # or none
    ("known", {type(None), str}),
    ("valid_from", {type(None), str}),
    ("confidence", {type(None), dict}),
)
ALIKE = ({float}, {int}, {float, int}, {str}, {list}, {bool})


def _place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a place in a JSON value: what holds it, and under which name."""
    places, left = [], [value]
    while left:
        holder = left.pop()
        names = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        places += [(holder, name) for name in names]
        left += [holder[name] for name in names]
    return rng.choice(places)
