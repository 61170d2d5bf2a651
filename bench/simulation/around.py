"""What is around the tasks of an extraction, in the processor's seconds: planning, a worker's start, the manifest."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.sizes import planning
from cache.names import PartName
from cache.store import plans
from cache.store.claims import Claims
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan
from extract import datasets
from extract.beginning import begin
from extract.computing import coverage, tasks
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning import candidate_lists, row_order, rows
from extract.planning.shards import Plan, missing
from extract.preparation import Job, prepare

ROOT = Path(__file__).parents[2]
ROWS, ROWS_OF_LARGE = 256, 8_192  # of a shard
SIZES = 2048, 512, 256, 128, 64  # rows of a shard, for which copies are counted
LOOKS, SHARDS = 200, 4  # looks that are timed, at so many shards of a task
LIBRARIES = "torchvision, transformers, open_clip; from transformers import BertModel; from extract import pipeline"
Found = TypeVar("Found")
# no encoder works here: weights are measured beside tasks
_TOYS: dict[str, Any] = {"weights": "random-tiny", "device": "cpu", "max_missing": 1.0}


def measure(data: Path, folder: Path) -> dict[str, Any]:
    """Return what WikiMEL's plan takes, a worker's imports, a look at a task, and the end of an extraction."""
    config = ExtractConfig("wikimel", data, shards=folder, shard_rows=ROWS, **_TOYS)
    found: dict[str, Any] = {"imports": short(imports()), "look": short(looking(folder / "looked at"))}
    found["wikimel"] = planned(config, finish=True)
    found["wikimel"]["copies"] = {str(rows): short(copies(data, rows)) for rows in SIZES}
    return found


def large(entities: int, folder: Path) -> dict[str, Any]:
    """Return what a plan of so many entities takes, whose lists are given."""
    release = planning.release(folder / "large", entities)
    return planned(ExtractConfig("jsonl", release, shards=folder, shard_rows=ROWS_OF_LARGE, **_TOYS))


def imports() -> float:
    """Return the seconds of a process that imports what encoders need."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {LIBRARIES}"], cwd=ROOT, check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def looking(folder: Path) -> float:
    """Return the seconds of a look at a task that another worker is at: SHARDS files are not there, its claim is."""
    folder.mkdir()
    draft, [plan] = Draft(folder), [ShardPlan(PartPlan(PartName("pair.candidates"), {}, {}), 0, 0, 1, "0" * 64)]

    def look() -> None:
        for _ in range(LOOKS):
            for _ in range(SHARDS):
                assert not draft.adopt(plan)
            with mine.named("looked at") as held:
                assert not held

    with Claims(folder) as theirs, Claims(folder) as mine, theirs.named("looked at"):
        return clocked(look)[0] / LOOKS


def planned(config: ExtractConfig, *, finish: bool = False) -> dict[str, Any]:
    """Return seconds: to plan, with the file that workers read; for a worker to read it; of the end of the cache.

    `serial` is what of planning is done by one thread, whatever the cores.
    """
    config.folder.mkdir(parents=True, exist_ok=True)

    def plan() -> tuple[Job, Path]:
        job = prepare(config, begin(config))
        missing(job.plan, job.draft.adopt)
        return job, plans.write(config.folder, job.handed(config)())

    def read() -> None:
        by_plan = ExtractConfig(**{**vars(config), "by_plan": plans.digest_of(file)})
        again = prepare(by_plan, begin(by_plan))
        missing(again.plan, again.draft.adopt)

    alone = time.thread_time()
    took, (job, file) = clocked(plan)
    found: dict[str, Any] = {"entities": len(job.release.entities), "plan": took, "serial": time.thread_time() - alone}
    found["bytes"] = file.stat().st_size
    found["read"], _ = clocked(read)
    shards = [shard for todo in missing(job.plan, lambda shard: False) for shard in todo.missing]
    found["shards"] = len(shards)
    if finish:
        found["finish"] = finished(job, shards)
    return rounded(found)


def copies(data: Path, shard_rows: int) -> float:
    """Return of how many earlier ranges of mentions one copies, the mean share; what is copied are vectors of texts."""
    config = ExtractConfig("wikimel", data, shard_rows=shard_rows, **_TOYS)
    release, layout = row_order.arrange(datasets.load("wikimel", data), None, shard_rows)
    lists = candidate_lists.blank(release, 1)
    plan = Plan(config, rows.Rows.hashed(release, layout, config.workers), lists, Encoders(config))
    split = tasks.split(missing(plan, lambda shard: False, ["mention"]))
    later = [task for task in split if task.group == tasks.REST and task.index]
    return float(np.mean([len(tasks.copied_from(plan, task)) / task.index for task in later]))


def finished(job: Job, shards: list[ShardPlan]) -> float:
    """Return seconds from the last shard to the manifest; shards are of random numbers."""
    draft = Draft(job.draft.folder)
    for shard in shards:
        draft.save(noise(shard))

    def finish() -> str:
        counts = coverage.count(job.release, job.plan.lists, draft)
        return draft.finish(job.about | {"coverage": counts}, {})

    return clocked(finish)[0]


def noise(plan: ShardPlan) -> Shard:
    """Return a shard of random numbers, whose integers are 0."""
    shard, rng = Shard(plan), np.random.default_rng(0)
    for column, (dtype, shape) in plan.part.columns.items():
        kind, size = np.dtype(dtype), (plan.rows, *shape)
        values = rng.standard_normal(size, np.float32) if kind.kind == "f" else np.zeros(size, kind)
        shard.put(column, np.arange(plan.rows), values)
    return shard


def clocked(step: Callable[[], Found]) -> tuple[float, Found]:
    """Return the processor's seconds of a step, and what it returns."""
    begin = time.process_time()
    found = step()
    return time.process_time() - begin, found


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with three digits."""
    return {name: short(value) if isinstance(value, float) else value for name, value in figures.items()}


def short(figure: float) -> float:
    """Return a figure with three digits."""
    return float(f"{figure:.3g}")
