"""What stands before an extraction: its encoders, candidate lists and rows, and the plan of every shard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cache import fingerprint, manifests
from cache.writing.draft import Draft
from common.errors import ConfigError
from common.records import SPLITS, Dataset
from extract.beginning import Begun, begin
from extract.computing import coverage
from extract.config import ExtractConfig
from extract.config.knobs import NONE
from extract.encoders import Encoders
from extract.plan_files import writing
from extract.plan_files.reading import PlanFile
from extract.planning import candidate_lists, row_order, rows
from extract.planning.shards import RANGED, Plan
from extract.planning.trust import Trust
from extract.remote import Shared
from extract.siblings import Siblings


@dataclass(frozen=True)
class Job:
    """What an extraction knows before it computes anything.

    `draft` holds what is finished, `siblings` the caches beside, `shared` a remote; `about` is what the manifest will
    say about the dataset, but for what is counted in the end. `listing`: lists are made once entities and mentions are
    encoded.
    """

    release: Dataset
    encoders: Encoders
    draft: Draft
    plan: Plan
    siblings: Siblings
    shared: Shared
    about: dict[str, Any]
    listing: bool

    def handed(self, config: ExtractConfig) -> Callable[[], bytes]:
        """Return what makes the bytes of a plan by which other processes do the same job."""
        return partial(writing.encoded, config, self.release, self.plan, self.draft.listed, self.about, self.listing)


def prepare(config: ExtractConfig, begun: Begun | None = None) -> Job:
    """Plan every shard of what has `begun`, by default as `begin` does; nothing is written."""
    begun = begun or begin(config)
    config = begun.config
    if begun.handed is not None:
        return _by_plan(config, begun, begun.handed)
    release, draft, siblings, shared = begun.release, begun.draft, begun.siblings, begun.shared
    encoders = Encoders(config)
    earlier = (
        None
        if config.limit or config.reorder
        else siblings.order(release, row_order.later(row_order.EarlierRows.of(config.folder), shared.order(release)))
    )
    release, layout = row_order.arrange(release, earlier, config.shard_rows)
    waiting = bool(config.candidates_from) and not config.limit  # for the vectors that lists are made by
    making = candidate_lists.blank if waiting else partial(candidate_lists.make, anew=bool(config.candidates_from))
    listed = making(release, config.list_length)
    if config.limit:
        release, listed = candidate_lists.keep_needed(release, listed)
        coverage.stop_if_absent(release, config.max_missing)
        release, layout = row_order.arrange(release, None, config.shard_rows)
    plan = Plan(config, rows.Rows.hashed(release, layout, config.workers), listed, encoders, draft.listed)
    _stop_if_too_many(config, plan)
    draft.examine(Trust(plan).problem)
    about = _described(config, release, plan, encoders)
    manifests.foresee(about | {"coverage": release.counts})
    return Job(release, encoders, draft, plan, siblings, shared, about, bool(config.candidates_from))


def _by_plan(config: ExtractConfig, begun: Begun, handed: PlanFile) -> Job:
    """Return the job that another process has planned.  Raises ConfigError if it is not the one of this process."""
    encoders, lists = Encoders(config), candidate_lists.Lists(**handed.lists, origin=handed.origin)
    plan = Plan(config, handed.rows, lists, encoders, handed.listed, handed.known)
    begun.draft.examine(Trust(plan).problem)
    return Job(begun.release, encoders, begun.draft, plan, begun.siblings, begun.shared, handed.about, handed.listing)


def with_lists(config: ExtractConfig, job: Job) -> Job:
    """Return the job with the lists that --candidates-from asks for, once entities and mentions are encoded."""
    lists = candidate_lists.by_sources(job.release, config.list_length, config.candidates_from, job.draft)
    plan = Plan(config, job.plan.rows, lists, job.encoders, job.draft.listed)
    job.draft.examine(Trust(plan).problem)
    return replace(job, plan=plan, about=_described(config, job.release, plan, job.encoders), listing=False)


def _stop_if_too_many(config: ExtractConfig, plan: Plan) -> None:
    """Raise ConfigError for more shards than a manifest may list, before any is computed."""
    count = sum(len(shards) for table in RANGED for shards in plan.shards(table))
    if count > manifests.MAX_SHARDS:
        enough = config.shard_rows * -(-count // manifests.MAX_SHARDS) * 2
        raise ConfigError(
            f"that would be {count:,} shards, and a manifest lists at most {manifests.MAX_SHARDS:,}: use "
            f"--shard-rows {enough}"
        )


def _described(config: ExtractConfig, release: Dataset, plan: Plan, encoders: Encoders) -> dict[str, Any]:
    """Return what the manifest says about the dataset."""
    return {
        "dataset": {
            "name": config.name or config.dataset,
            "content": fingerprint.digest_of_list(content.hex() for content in plan.content()),
            "licence": release.licence,
            "source": release.source,
        },
        "tables": plan.tables(),
        "candidates": plan.lists.candidates.shape[1],
        "splits": {name: sum(m.splits >> bit & 1 for m in release.mentions) for bit, name in enumerate(SPLITS)},
        "warnings": [*release.warnings, *_warnings(config, plan, encoders)],
    } | ({} if config.limit else {"generations": [list(rows) for rows in plan.rows.layout.generations]})


def _warnings(config: ExtractConfig, plan: Plan, encoders: Encoders) -> Iterator[str]:
    """Yield what every output of this cache must repeat."""
    random: dict[str, list[str]] = {}
    for role, weights in encoders.weights.items():
        if weights.random:
            random.setdefault(weights.kind, []).append(role)
    for kind, roles in random.items():
        of = "" if len(roles) == len(encoders.weights) else f" of the roles {', '.join(roles)}"
        yield f"random weights ({kind}){of}: these features carry no meaning beyond a network's structure"
    if config.limit:
        yield f"limited to the first {config.limit} captions and the entities they need: not the whole {config.dataset}"
    if "mention.attributes" in plan.parts:
        for trait, inferred in (("gender", config.infer_gender), ("race", config.infer_race)):
            if inferred:
                by = "CLIP" if config.faces in (None, NONE) else "DeepFace"
                yield f"{trait} inferred by {by} from pictures of people: guesses, not facts about anyone"
