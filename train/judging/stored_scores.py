"""The scores that a run kept of valid and test, read as if a stranger had written them.  No torch here.

Of lists that are the cache's own the file has the scores alone, (n, C) float32; of others, under --protocol whole-kb,
the entities, too, and of all entities the 100 best (train/evaluating/best_entities.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import Reader
from common import paths
from common.errors import ConfigError
from train.config import PROTOCOLS
from train.run_folder import run_files, run_schema
from train.run_folder.run_files import TensorFile

ROUNDING = 1e-9
NIL = -1  # stands for gold where no entity of the cache is right
ALL = "all"  # what is `ranked` where all entities are


@dataclass(frozen=True)
class Scored:
    """Mention rows (n,), the entities (n, C) of their lists, -1 = padding, and their scores (n, C), -inf there."""

    rows: np.ndarray
    entities: np.ndarray
    scores: np.ndarray


def read(run: Path, results: dict[str, Any], reader: Reader, seed: int) -> dict[str, Scored]:
    """Return the scores that a seed kept, by split: test, and valid where that was measured; {} if it kept none.

    `results` is the checked content of results.json, `reader` its cache; of another one, be it that one grown, nothing
    was kept. Arrays map the file. Raises ConfigError for what is damaged, of another training, or of other mentions or
    lists than the cache has.
    """
    path = run / f"scores-{seed}.safetensors"
    if reader.id != results["cache_id"] or not paths.exists(path):
        return {}
    tested = next(result["test"] for result in results["seeds"] if result["seed"] == seed)
    with run_files.open_tensors(run / f"ranks-{seed}.safetensors") as file:
        about = run_schema.identity(file.about)
    with run_files.open_tensors(path) as file:
        alike = file.about == about and all(about[name] == results[name] for name in ("model", "cache_id"))
        if not alike or file.what != {"seed": seed}:
            raise ConfigError("it holds scores of another training than the results and ranks beside it")
        names = [name for name in ("valid", "test") if f"{name}.rows" in file.stored]
        found = {name: _split(file, name, results, reader) for name in names}
        if "test" not in found or not _gives(found["test"], results, reader, tested):
            raise ConfigError("it holds other scores than the results beside it are of")
    return found


def mean(every: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the scores of seeds, each (n, C), of the same type.

    They are added in their order: reductions of numpy and torch add in an order that depends on the shape, so that a
    mention's last bits would depend on those beside it.
    """
    total = every[0]
    for own in every[1:]:
        total = total + own
    found: np.ndarray = total / len(every)
    return found


def lists_of(reader: Reader, protocol: str, rows: np.ndarray) -> np.ndarray:
    """Return the entities (n, C) that gold is ranked among in the cache's lists, as train.evaluating.protocols has it.

    `protocol` is as results.json names it: under B gold stands where a list lacks it.
    """
    found = np.array(reader.column("pair.candidates.candidates")[rows], np.int64)
    if protocol == PROTOCOLS["injected"]:
        gold, place = (np.asarray(reader.column(name)[rows]) for name in ("mention.ids.gold", "pair.candidates.gold"))
        lost = np.flatnonzero((place < 0) & (gold >= 0))
        padding = found[lost] < 0
        last = found.shape[1] - 1
        found[lost, np.where(padding.any(1), padding.argmax(1), last)] = gold[lost]
    return found


def golds_of(reader: Reader, found: Scored) -> np.ndarray:
    """Return where gold stands in each list, (n,), -1 = nowhere."""
    if "mention.ids.gold" in reader.columns:
        gold = np.asarray(reader.column("mention.ids.gold"))[found.rows]
    else:
        lists, place = (np.asarray(reader.column(f"pair.candidates.{name}")) for name in ("candidates", "gold"))
        gold = np.where(place[found.rows] >= 0, lists[found.rows, place[found.rows]], -1)
    hits = (found.entities == gold[:, None]) & (gold[:, None] >= 0)
    return np.where(hits.any(1), hits.argmax(1), -1)


def expected_top1(found: Scored, gold: np.ndarray) -> np.ndarray:
    """Return the Top-1 hit of each mention, ties in expectation.  gold (n,), -1 = not in the list -> float64 (n,)"""
    there = gold >= 0
    own = found.scores[np.arange(len(gold)), np.maximum(gold, 0)]
    top = found.scores.max(1, initial=-np.inf)
    ties = (found.scores == top[:, None]).sum(1)
    hit: np.ndarray = np.where(there & (own == top), 1 / np.maximum(ties, 1), 0.0)
    return hit


def _split(file: TensorFile, name: str, results: dict[str, Any], reader: Reader) -> Scored:
    """Return one split's scores.  Raises ConfigError for what no test of this cache can have."""
    rows, scores = file.mapped(f"{name}.rows"), file.mapped(f"{name}.scores")
    count, entities = reader.manifest.tables["mention"], reader.manifest.tables["entity"]
    if rows.dtype != np.int64 or rows.ndim != 1 or scores.dtype.kind != "f" or scores.shape[:-1] != rows.shape:
        raise ConfigError(f"it holds no table of scores of {name}")
    if len(rows) and (rows[0] < 0 or rows[-1] >= count or not (rows[1:] > rows[:-1]).all()):
        raise ConfigError(f"it holds scores of mentions of {name} that the cache does not have")
    if results["ranked"] == "list":
        lists = lists_of(reader, results["protocol"], rows)
    else:
        lists = file.mapped(f"{name}.entities").astype(np.int64)
    if lists.shape != scores.shape or (lists < -1).any() or (lists >= entities).any():
        raise ConfigError(f"it holds scores of other lists of {name} than the cache has")
    if not (np.isfinite(scores) == (lists >= 0)).all() or np.isnan(scores).any() or (scores == np.inf).any():
        raise ConfigError(f"it holds scores of {name} that no head gives")
    return Scored(rows, lists, scores)


def _gives(found: Scored, results: dict[str, Any], reader: Reader, tested: dict[str, float]) -> bool:
    """Whether scores on test have the Top-1 that a result says; of all entities' best ties may have more."""
    if len(found.rows) != tested["mentions"]:
        return False
    top1 = float(expected_top1(found, golds_of(reader, found)).mean()) if len(found.rows) else 0.0
    low = -ROUNDING if results["ranked"] != ALL else -1.0
    return low <= top1 - tested["top1"] <= ROUNDING or not len(found.rows)
