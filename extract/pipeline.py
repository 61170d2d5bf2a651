"""From a dataset release to a finished cache; `run` is the function to read first."""

import time
from functools import partial
from pathlib import Path

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
from extract.preparation import prepare, with_lists


def run(config: ExtractConfig, begun: Begun | None = None) -> Path:
    """Encode a release into `config.folder` and return that directory.

    Finished shards of an interrupted run are kept, and those that a remote has are fetched. `begun` is what
    `beginning.begin` has read, where it has. Raises MelcacheError: see common.errors.
    """
    start = time.monotonic()
    begun = begun or begin(config)
    config = begun.config
    job = prepare(config, begun)
    draft, encoders, shared = job.draft, job.encoders, job.shared
    with store.together(config.folder):
        draft.sweep()
        work = Work(job.plan, encoders, draft, config)
        for tables in (RANGED[:2], RANGED[2:]) if job.listing else (RANGED,):
            if tables == RANGED[2:]:
                if config.by_plan:
                    say("entities and mentions are encoded; the process that planned makes the candidate lists")
                    return config.folder
                job = with_lists(config, job)
                work.go_by(job.plan)
            todo = missing(job.plan, draft.adopt, tables)
            _tell_wrong(draft)
            todo = shared.take(job.siblings.take(todo, draft), draft)
            if config.explain:
                console.show(explain.report(explain.reasons(job, todo), job.siblings.lent))
            if (come := by_workers.work(config, job.handed(config), todo, encoders)) is None:
                return config.folder
            work.come += come
            if any(item.missing for item in todo):
                work.meeting = shared.meeting(partial(groups, job.plan, tables), draft)
            work.do(todo)
        plan = job.plan
        counts = coverage.count(job.release, plan.lists, draft)
        about = job.about | {"coverage": counts}
        elsewhere = [*job.siblings.taken, *shared.taken]
        history = provenance.of(draft, elsewhere, work.clock.seconds, encoders, time.monotonic() - start)
        identity = draft.finish(about, history)
        claims.clear(config.folder)
        plans.clear(config.folder)
    console.show(coverage.report(job.release, plan.lists, counts))
    for line in [*work.counters().splitlines(), *filter(None, [work.spans.told()])]:
        say(line)
    for warning in about["warnings"]:
        say(f"warning: {warning}")
    say(f"{config.folder}: cache id {identity[:16]}..., {duration(time.monotonic() - start)}")
    if config.url:
        say(shared.account(draft))
    if config.push and not config.by_plan:  # else the process that planned publishes
        say(shared.push())
    return config.folder


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
