"""From a dataset release to a finished cache; `run` is the function to read first."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cache import store
from cache.store import claims, plans
from cache.writing.draft import Draft
from common import console
from common.output import duration, say
from extract import explain
from extract.beginning import Begun, begin
from extract.computing import by_workers, coverage, provenance
from extract.computing.missing_shards import Work
from extract.computing.tasks import groups
from extract.config import ExtractConfig
from extract.planning.shards import RANGED, missing
from extract.preparation import Job, prepare, with_lists


def run(config: ExtractConfig, begun: Begun | None = None) -> Path:
    """Encode a release into `config.folder` and return that directory.

    Finished shards of an interrupted run are kept, and those that a remote has are fetched. `begun` is what
    `beginning.begin` has read, where it has. Raises MelcacheError: see common.errors.
    """
    start = time.monotonic()
    begun = begun or begin(config)
    config = begun.config
    job = prepare(config, begun)
    with store.together(config.folder):
        job.draft.sweep()
        work = Work(job.plan, job.encoders, job.draft, config)
        made = _make(config, job, work)
        if made is None:
            return config.folder
        about, identity = _finish(made, work, start)
    for line in [*work.counters().splitlines(), *filter(None, [work.spans.told()])]:
        say(line)
    for warning in about["warnings"]:
        say(f"warning: {warning}")
    say(f"{config.folder}: cache id {identity[:16]}..., {duration(time.monotonic() - start)}")
    if config.url:
        say(made.shared.account(made.draft))
    if config.push and not config.by_plan:  # else the process that planned publishes
        say(made.shared.push())
    return config.folder


def _make(config: ExtractConfig, job: Job, work: Work) -> Job | None:
    """Make what is missing and return the job with its lists; None where other processes finish the cache."""
    for tables in (RANGED[:2], RANGED[2:]) if job.listing else (RANGED,):
        if tables == RANGED[2:]:
            if config.by_plan:
                say("entities and mentions are encoded; the process that planned makes the candidate lists")
                return None
            job = with_lists(config, job)
            work.go_by(job.plan)
        if not _make_tables(config, job, work, tables):
            return None
    return job


def _make_tables(config: ExtractConfig, job: Job, work: Work, tables: Sequence[str]) -> bool:
    """Take what is missing of some tables from elsewhere and compute the rest; False where others finish them."""
    todo = missing(job.plan, job.draft.adopt, tables)
    _tell_wrong(job.draft)
    todo = job.shared.take(job.siblings.take(todo, job.draft), job.draft)
    if config.explain:
        console.show(explain.report(explain.reasons(job, todo), job.siblings.lent))
    if (come := by_workers.work(config, job.handed(config), todo, job.encoders)) is None:
        return False
    work.come += come
    if any(item.missing for item in todo):
        work.meeting = job.shared.meeting(partial(groups, job.plan, tables), job.draft)
    work.do(todo)
    return True


def _finish(job: Job, work: Work, start: float) -> tuple[dict[str, Any], str]:
    """Write the manifest of a cache whose every shard is there; return what it says, and the cache id."""
    counts = coverage.count(job.release, job.plan.lists, job.draft)
    about = job.about | {"coverage": counts}
    elsewhere = [*job.siblings.taken, *job.shared.taken]
    history = provenance.of(job.draft, elsewhere, work.clock.seconds, job.encoders, time.monotonic() - start)
    identity = job.draft.finish(about, history)
    claims.clear(job.draft.folder)
    plans.clear(job.draft.folder)
    console.show(coverage.report(job.release, job.plan.lists, counts))
    return about, identity


def _tell_wrong(draft: Draft) -> None:
    """Say which shards that lie in the folder are not taken."""
    if draft.wrong:
        file, problem = next(iter(draft.wrong.items()))
        say(
            f"warning: {len(draft.wrong):,} shards in {draft.folder} hold impossible values and are recomputed: "
            f"{file}: {problem}"
        )
    if draft.damaged:
        say(
            f"warning: {len(draft.damaged):,} shards in {draft.folder} are recomputed: damaged since they were "
            f"finished, or written by a version that recorded no checksums: {min(draft.damaged)}"
        )
