"""What differs between two caches: recipes field by field, rows by id, values within a tolerance."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cache.manifests.entries import PartEntry
from cache.names import PartName
from cache.quantized import LEVELS, kind_of
from cache.reader import Reader
from cache.schema import PARTS, SEQUENCES
from common.foreign import printable
from common.output import table

TOLERANCE = 2e-3  # relative to the row's largest magnitude: float16 keeps 11 bits, and batches differ in the last
BLOCK = 4096  # rows compared at once
ABSENT = "(nothing)"
STATES = {"alike": "same", "differently": "different"}  # as tables say it
# rows of another table: two caches may number them differently
Places = tuple[np.ndarray, np.ndarray]  # where common rows stand in each of two caches
INDICES = ("pair.candidates.candidates", "pair.candidates.gold", "mention.ids.gold")


def recipes(first: Any, second: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, value here, value there) for each field of two recipes that differs, such as encoder.resize."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            inner = f"{field}.{name}" if field else name
            yield from recipes(first.get(name, ABSENT), second.get(name, ABSENT), inner)
    elif first != second:
        yield field, first, second


def changes(first: PartEntry, second: PartEntry) -> list[tuple[str, Any, Any]]:
    """Return what `recipes` yields for two manifests' entries of a part: recipe, and the parts that it derives from."""
    return [*recipes(first.recipe, second.recipe), *recipes(first.inputs, second.inputs, "inputs")]


def compare(first: Reader, second: Reader, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Return what `melcache diff` shows; `same` says whether both have one id."""
    places = {name: _places(first, second, name) for name in first.manifest.tables.keys() - SEQUENCES.keys()}
    names = [name for name in map(PartName, PARTS) if name in first.manifest.parts or name in second.manifest.parts]
    return {
        "ids": [first.id, second.id],
        "same": first.id == second.id,
        "dataset": list(recipes(first.manifest.dataset.as_json(), second.manifest.dataset.as_json())),
        "rows": {
            name: {
                "both": len(here),
                "first": first.manifest.tables[name],
                "second": second.manifest.tables[name],
            }
            for name, (here, _) in sorted(places.items())
        },
        "parts": {name: _part(first, second, name, places.get(name.table), tolerance) for name in names},
    }


def show(found: dict[str, Any], names: tuple[str, str]) -> str:
    """Return the findings as text."""
    if found["same"]:
        return f"{names[0]} and {names[1]} are the same cache: id {found['ids'][0]}"
    lines = [f"1: {names[0]}, id {found['ids'][0]}", f"2: {names[1]}, id {found['ids'][1]}"]
    lines += [f"dataset: {_changed(*change)}" for change in found["dataset"]]
    rows = [(name, counts["first"], counts["second"], counts["both"]) for name, counts in found["rows"].items()]
    lines += ["", table(("table", "rows in 1", "rows in 2", "in both, by id"), rows), ""]
    parts, changes = [], []
    for name, part in found["parts"].items():
        values = [f"{column}: {_values(*counts)}" for column, counts in part.get("values", {}).items() if counts[0]]
        compared = any(counts[1] for counts in part.get("values", {}).values())
        parts.append(
            (name, STATES.get(part["state"], part["state"]), "; ".join(values) or ("equal" if compared else "-"))
        )
        changes += [f"{name}: {_changed(*change)}" for change in part.get("recipe", ())]
    lines.append(table(("part", "recipe", "values of common rows"), parts))
    return "\n".join([*lines, *([""] if changes else []), *map(printable, changes)])


def _part(first: Reader, second: Reader, name: PartName, places: Places | None, tolerance: float) -> dict[str, Any]:
    here, there = first.manifest.parts.get(name), second.manifest.parts.get(name)
    if here is None or there is None:
        return {"state": "only in 1" if there is None else "only in 2"}
    state = "alike" if here.fingerprint == there.fingerprint else "differently"
    found: dict[str, Any] = {"state": state}
    if state == "differently":
        found["recipe"] = changes(here, there)
    if places is not None:
        common = [column for column in here.read if column in there.read]
        found["values"] = {
            column: _count(first, second, name.column(column), places, tolerance + _step(here, there, column))
            for column in common
            if here.columns[column].read[1] == there.columns[column].read[1]
            and name.column(column) not in INDICES
            and name not in SEQUENCES.values()
        }
    return found


def _count(first: Reader, second: Reader, name: str, places: Places, tolerance: float) -> list[Any]:
    """Return how many common rows of a column differ by more than the tolerance, and the largest finite difference."""
    left, right, (here, there) = first.column(name), second.column(name), places
    rows, largest = 0, 0.0
    for begin in range(0, len(here), BLOCK):
        a, b = left[here[begin : begin + BLOCK]], right[there[begin : begin + BLOCK]]
        if a.dtype.kind != "f":
            rows += int((a != b).reshape(len(a), -1).any(1).sum())
            continue
        wide = [side.astype(np.float64).reshape(len(side), -1) for side in (a, b)]
        differ, apart = _floats(wide[0], wide[1], tolerance)
        rows, largest = rows + int(differ.sum()), max(largest, float(apart.max(initial=0.0)))
    return [rows, len(here), largest]


def _step(first: PartEntry, second: PartEntry, column: str) -> float:
    """Return how far two vectors that differ in their last bits can be apart once they are stored as codes.

    Relative to their largest magnitude: a code rounds up or down. 0 where both are stored as numbers.
    """
    specs = (entry.columns[column] for entry in (first, second))
    return max((1 / LEVELS[kind_of(spec.dtype)] for spec in specs if spec.width is not None), default=0.0)


def _floats(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows (n,) of (n, D) differ, and by how much, of numbers that are finite in both.

    NaN is equal to NaN and infinity to itself; to anything else they differ, whatever the tolerance.
    """
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore"):  # of infinities
        apart = np.where(finite, np.abs(a - b), 0).max(1, initial=0)
    scale = np.where(finite, np.maximum(np.abs(a), np.abs(b)), 0).max(1, initial=0)
    broken = ~finite & (a != b) & ~(np.isnan(a) & np.isnan(b))
    return broken.any(1) | (apart > tolerance * scale.clip(min=1e-6)), apart


def _places(first: Reader, second: Reader, name: str) -> Places:
    """Return where the rows that both caches have stand in each, by id; by position where a cache came without ids."""
    column = f"{'mention' if name == 'pair' else name}.ids.id"
    if column not in first.columns or column not in second.columns:
        count = min(first.manifest.tables[name], second.manifest.tables[name])
        return np.arange(count), np.arange(count)
    known = {key: row for row, key in enumerate(second.column(column).tolist())}
    pairs = [(row, known[key]) for row, key in enumerate(first.column(column).tolist()) if key in known]
    here, there = np.array(pairs, np.int64).reshape(-1, 2).T
    return here, there


def _values(rows: int, of: int, largest: float) -> str:
    return f"{rows:,} of {of:,} differ" + (f", by at most {largest:.3g}" if largest else "")


def _changed(field: str, first: Any, second: Any) -> str:
    return f"{field}: {first!r} in 1, {second!r} in 2"
