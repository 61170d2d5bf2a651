"""Numbers that must not be stored, and rows that must not move."""

from pathlib import Path

import numpy as np

from cache.names import PartName
from cache.reader import Reader
from cache.schema import PARTS
from cache.writing.writer import PartPlan, Shard, ShardPlan, columns_of
from common.errors import CacheError, NotFiniteError
from torture.tiny_cache import Result, build, shards

BAD = (np.nan, np.inf, -np.inf, 65_520.0, -1e30)  # from 65,520 on float16 rounds to infinity
SIZES = dict.fromkeys("DVPCKRAFLIG", 2) | {"id": 8, "name": 8, "caption": 8, "surface": 8, "type": 8}
ROWS = 4


def run(scratch: Path, seed: int) -> Result:
    """Put each bad number into each float column, and an integer too large into each other; then look for each row."""
    result = Result("numbers")
    for name in PARTS:
        plan = PartPlan(PartName(name), {}, columns_of(name, SIZES, "<f2"))
        for column, (dtype, shape) in plan.columns.items():
            kind = np.dtype(dtype).kind
            for bad in BAD if kind == "f" else (1 << 40,) if kind in "iu" else (b"x" * 99,) if kind == "S" else ():
                if dtype == "<f4" and np.isfinite(bad):
                    continue
                result.case()
                _refused(plan, column, shape, bad, result)
    _rows(scratch / "cache", seed, result)
    return result


def _refused(plan: PartPlan, column: str, shape: tuple[int, ...], bad: object, result: Result) -> None:
    shard = Shard(ShardPlan(plan, 0, 100, ROWS, "ab" * 32), lambda row: f"row number {row}")
    values = np.zeros((ROWS, *shape), np.asarray(bad).dtype)
    values[2] = bad
    try:
        shard.put(column, np.arange(ROWS), values)
        result.fail(f"{plan.name}.{column} took {bad!r}")
    except (NotFiniteError, CacheError) as error:
        if "row number 102" not in str(error):
            result.fail(f"{plan.name}.{column}: {error} does not name the row")


def _rows(folder: Path, seed: int, result: Result) -> None:
    """Compare what a cache gives with the numbers drawn, row by row, when they were put in another order."""
    rng = np.random.default_rng(seed)
    build(folder, seed)
    reader = Reader(folder)
    for shard in shards(seed):
        plan = shard.plan
        again = Shard(plan)
        for column in plan.part.columns:
            order = rng.permutation(plan.rows)
            again.put(column, order, shard.get(column, order))
            expected = shard.get(column, np.arange(plan.rows))
            given = reader.column(f"{plan.part.name}.{column}")[plan.start : plan.start + plan.rows]
            result.case()
            if not np.array_equal(given, expected) or not np.array_equal(
                again.get(column, np.arange(plan.rows)), expected
            ):
                result.fail(f"{plan.part.name}.{column} from row {plan.start}: rows have moved")
