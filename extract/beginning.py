"""How an extraction begins: the release, the remote's answer, the cache in the folder; nothing here needs an encoder.

What is wrong with these is told at once, before torch and the encoders' libraries are imported, which takes seconds.
"""

from dataclasses import dataclass

from cache import kinds
from cache.names import PartName
from cache.writing.draft import Draft
from common import own_file, places
from common.errors import ConfigError, DatasetError, WeightsError
from common.output import say
from common.paths import check_writable, is_folder
from common.records import SPLITS, Dataset
from extract import datasets
from extract.attributes import faces
from extract.computing import coverage
from extract.config import ExtractConfig
from extract.config.knobs import LOCAL, NONE, OPTIONS
from extract.plan_files import reading
from extract.plan_files.reading import PlanFile
from extract.planning import rows
from extract.reading import aliases, descriptions
from extract.reading.entity_columns import field
from extract.remote import Shared
from extract.siblings import Siblings
from extract.weights import sources
from workers import launch

PATHS = ("/", "./", "../", "~", LOCAL)  # what an encoder's name begins with that can be a folder alone


@dataclass(frozen=True)
class Begun:
    """The records of a release, limited where that is asked, what is finished, the caches beside, and a remote.

    `config` is that which was asked for, but for what GPUs of its workers decide; `handed` is the plan of another
    process that this one goes by.
    """

    config: ExtractConfig
    release: Dataset
    draft: Draft
    siblings: Siblings
    shared: Shared
    handed: PlanFile | None = None


def begin(config: ExtractConfig) -> Begun:
    """Read what there is.  Raises MelcacheError for whatever no encoder is needed to see; nothing is written."""
    shared = Shared(config)  # first: a bad URL stops at once, and the weights may switch the Hub's library off
    _stop_if_no_encoder(config)
    if config.engine is not None and launch.check(config.engine, config.folder):
        config = _for_gpus(config)
    if not config.plan:
        check_writable(config.folder)
    if config.by_plan:
        handed = reading.read(config, config.by_plan)
        return Begun(config, handed.release, Draft(config.folder), Siblings(config), shared, handed)
    release = datasets.load(config.dataset, config.source)
    _tell_doubts(config, release)
    if config.descriptions not in (None, NONE):
        release = descriptions.add(release, config.descriptions)
    if config.aliases not in (None, NONE):
        release = aliases.add(release, config.aliases)
    if config.faces not in (None, NONE):
        asked = {"gender": config.infer_gender, "race": config.infer_race}
        release = faces.add(release, config.faces, config.objects, **asked)
    draft, siblings = Draft(config.folder), Siblings(config)
    _stop_if_forgotten(config, release, draft)
    config.refuse_idle_storage({*config.demanded, *draft.parts})
    if config.limit:
        whole, release = release, rows.limit(release, config.limit)
        _tell_lost_splits(config, whole, release)
    else:
        coverage.stop_if_absent(release, config.max_missing)  # before minutes of fuzzy matching
    return Begun(config, release, draft, siblings, shared)


def _for_gpus(config: ExtractConfig) -> ExtractConfig:
    """Return the config by which workers on GPUs compute, whatever this machine has."""
    if config.device != "auto":
        return config
    found = config.for_gpus
    if found != config:
        say(f"workers have GPUs: planned with --precision {found.precision}, as they take it by themselves")
    return found


def _stop_if_no_encoder(config: ExtractConfig) -> None:
    """Raise WeightsError for a folder of weights or of a model that is not there, ConfigError for such a file."""
    for role in sources.by_role(config):
        name, option = config.named(role) or "", f"--{OPTIONS[role]}"
        if (path := config.own(role)) is not None:
            own_file.read(path, option)
        elif name.startswith(PATHS) and not is_folder(places.home(name.removeprefix(LOCAL))):
            raise WeightsError(f"{option} {name}: no such folder. Expected the folder of a model, or a model's name")


def _tell_doubts(config: ExtractConfig, release: Dataset) -> None:
    """Say what in a release is probably a mistake.  Raises DatasetError for the first with --strict."""
    if release.doubts and config.strict:
        raise DatasetError(f"{release.doubts[0]}, which --strict refuses. {release.doubts[-1]}")
    for doubt in release.doubts:
        say(f"warning: {doubt}")


def _stop_if_forgotten(config: ExtractConfig, release: Dataset, draft: Draft) -> None:
    """Raise ConfigError for an option that made columns of the cache in the folder and is not given now.

    That cache may also be one that has grown, which --limit would replace.
    """
    had = {
        "descriptions": any(
            column in entry.columns
            for part, entry in draft.parts.items()
            for column in kinds.columns_with("descriptions", part)
        ),
        "faces": any("faces" in draft.parts[part].recipe for part in kinds.reading("faces") if part in draft.parts),
    }
    lists = draft.parts.get(PartName("pair.candidates"))
    had["aliases"] = lists is not None and "aliases" in lists.recipe
    has = {"descriptions": any(field(release.entities, "description"))}
    has |= {option: getattr(config, option) is not None for option in ("faces", "aliases")}
    for option in (name for name in had if had[name] and not has[name] and getattr(config, name) is None):
        raise ConfigError(
            f"the cache in {config.folder} was made with {option}; give --{option} again, or --{option} none to remove "
            "them"
        )
    if config.limit and draft.before is not None and len(draft.before.generations or ()) > 1:
        raise ConfigError(f"--limit would replace the grown cache in {config.folder}; give it another --name")


def _tell_lost_splits(config: ExtractConfig, whole: Dataset, kept: Dataset) -> None:
    """Say which splits of a release have no mention among the first captions, and how many captions would have some."""
    captions = {caption: number for number, caption in enumerate(dict.fromkeys(m.caption for m in whole.mentions), 1)}
    begins: dict[str, int] = {}
    for mention in whole.mentions:
        for bit, name in enumerate(SPLITS):
            if mention.splits >> bit & 1:
                begins[name] = min(begins.get(name, len(captions)), captions[mention.caption])
    last = len({mention.caption for mention in kept.mentions})
    if lost := [name for name in begins if begins[name] > last]:
        enough = max(begins[name] for name in lost)
        say(
            f"warning: --limit {config.limit} keeps no mention of {' and '.join(lost)}, so that no head can be trained "
            f"and tested on this cache. --limit {enough} has some of each split"
        )
