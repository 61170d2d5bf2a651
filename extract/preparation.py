"""What stands before an extraction: the release, the remote's answer, and the plan of every shard."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cache import fingerprint, kinds, manifests
from cache.writing.draft import Draft
from common.errors import ConfigError, DatasetError
from common.output import say
from common.records import SPLITS, Dataset
from extract import datasets
from extract.attributes import faces
from extract.computing import coverage
from extract.config import NONE, ExtractConfig
from extract.encoders import Encoders
from extract.planning import candidate_lists, row_order, rows
from extract.planning.shards import RANGED, Plan
from extract.planning.trust import Trust
from extract.reading import descriptions
from extract.remote import Shared
from extract.siblings import Siblings


@dataclass(frozen=True)
class Job:
    """What an extraction knows before it computes anything.

    `draft` holds what is finished, `siblings` the caches beside, `shared` a remote.
    """

    release: Dataset
    encoders: Encoders
    draft: Draft
    plan: Plan
    siblings: Siblings
    shared: Shared


def prepare(config: ExtractConfig) -> Job:
    """Read the release, ask the remote, and plan every shard; nothing is written."""
    shared = Shared(config)  # first: a bad URL stops at once, and the weights may switch the Hub's library off
    release = datasets.load(config.dataset, config.source)
    _tell_doubts(config, release)
    if config.descriptions not in (None, NONE):
        release = descriptions.add(release, config.descriptions)
    if config.faces not in (None, NONE):
        asked = {"gender": config.infer_gender, "race": config.infer_race}
        release = faces.add(release, config.faces, config.objects, **asked)
    draft, siblings = Draft(config.folder), Siblings(config)
    _stop_if_forgotten(config, release, draft)
    if config.limit and draft.before is not None and len(draft.before.generations or ()) > 1:
        raise ConfigError(f"--limit would replace the grown cache in {config.folder}; give it another --name")
    encoders = Encoders(config)
    if config.limit:
        release = rows.limit(release, config.limit)
    else:
        coverage.stop_if_absent(release, config.max_missing)  # before minutes of fuzzy matching
    earlier = (
        None
        if config.limit or config.reorder
        else siblings.order(release, row_order.later(row_order.EarlierRows.of(config.folder), shared.order(release)))
    )
    release, layout = row_order.arrange(release, earlier, config.shard_rows)
    listed = candidate_lists.make(release, config.list_length)
    if config.limit:
        release, listed = candidate_lists.keep_needed(release, listed)
        coverage.stop_if_absent(release, config.max_missing)
        release, layout = row_order.arrange(release, None, config.shard_rows)
    plan = Plan(config, rows.Rows.hashed(release, layout, config.workers), listed, encoders, draft.listed)
    _stop_if_too_many(config, plan)
    draft.examine(Trust(plan).problem)
    job = Job(release, encoders, draft, plan, siblings, shared)
    manifests.foresee(described(config, job) | {"coverage": release.counts})
    return job


def _tell_doubts(config: ExtractConfig, release: Dataset) -> None:
    """Say what in a release is probably a mistake.  Raises DatasetError for the first with --strict."""
    if release.doubts and config.strict:
        raise DatasetError(f"{release.doubts[0]}, which --strict refuses. {release.doubts[-1]}")
    for doubt in release.doubts:
        say(f"warning: {doubt}")


def _stop_if_too_many(config: ExtractConfig, plan: Plan) -> None:
    """Raise ConfigError for more shards than a manifest may list, before any is computed."""
    count = sum(len(shards) for table in RANGED for shards in plan.shards(table))
    if count > manifests.MAX_SHARDS:
        enough = config.shard_rows * -(-count // manifests.MAX_SHARDS) * 2
        raise ConfigError(
            f"that would be {count:,} shards, and a manifest lists at most {manifests.MAX_SHARDS:,}: use "
            f"--shard-rows {enough}"
        )


def _stop_if_forgotten(config: ExtractConfig, release: Dataset, draft: Draft) -> None:
    """Raise ConfigError for an option that made columns of the cache in the folder and is not given now."""
    had = {
        "descriptions": any(
            column in entry.columns
            for part, entry in draft.parts.items()
            for column in kinds.columns_with("descriptions", part)
        ),
        "faces": any("faces" in draft.parts[part].recipe for part in kinds.reading("faces") if part in draft.parts),
    }
    has = {"descriptions": any(entity.description for entity in release.entities), "faces": config.faces is not None}
    for option in (name for name in had if had[name] and not has[name] and getattr(config, name) is None):
        raise ConfigError(
            f"the cache in {config.folder} was made with {option}; give --{option} again, or --{option} none to remove "
            "them"
        )


def described(config: ExtractConfig, job: Job) -> dict[str, Any]:
    """Return what the manifest says about the dataset."""
    release, plan = job.release, job.plan
    return {
        "dataset": {
            "name": config.name or config.dataset,
            "content": fingerprint.digest([content.hex() for content in plan.content()]),
            "licence": release.licence,
            "source": release.source,
        },
        "tables": plan.tables(),
        "candidates": plan.lists.candidates.shape[1],
        "splits": {name: sum(m.splits >> bit & 1 for m in release.mentions) for bit, name in enumerate(SPLITS)},
        "warnings": [*release.warnings, *_warnings(config, plan, job.encoders)],
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
